"""The golden conversations: what both receivers answer is what docs/protocol.md says."""

import hashlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from lab.c_receiver_bench import CBench, c_bench
from lab.rcp.devices import Device
from lab.rcp.radio import Reader
from lab.receiver_bench import PROFILE

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.base import FrameType
from gatewayd.protocol.session import ImageState
from gatewayd.simulator.bootloader import Bootloader
from gatewayd.simulator.file_store import MemoryFileStore
from gatewayd.simulator.journal import FlashJournal
from gatewayd.simulator.profile import DeviceProfile
from gatewayd.simulator.receiver import Receiver, blank_flash

VECTORS = Path(__file__).parent.parent / "vectors" / "rcp"
CONVERSATIONS = sorted(VECTORS.glob("conversation-*.txt"))
NUMBERS = (
    *("max_frame", "window", "rx_ring", "slot_address"),
    *("slot_size", "erase_block", "write_unit", "boot_time_s"),
)
TRIAL_S = 1


@dataclass
class Replay:
    """Feeds one conversation to a device."""

    device: Device
    packet: int | None
    now: float = 0.0
    answers: list[bytes] = field(default_factory=list)

    def say(self, wire: bytes) -> None:
        self.device.receive_data(wire, self.now)
        self.settle()

    def settle(self) -> None:
        """Let it work for less than 5 s, until nothing more comes."""
        reader, end = Reader(self.packet, 512), self.now + 4.9
        while True:
            while wire := self.device.data_to_send(self.now):
                self.answers += [found for found in reader.contents(wire) if isinstance(found, bytes)]
            due = self.device.next_deadline()
            if due is None or due > end:
                return
            self.now = max(self.now, due)
            self.device.handle_timeout(self.now)

    def compared_answers(self) -> list[bytes]:
        answers, self.answers = self.answers, []
        return [answer for answer in answers if answer[0] != FrameType.BUSY]


def try_image(on: CBench, image: bytes, trial_s: int) -> None:
    """Have it start an image."""
    accept = on.offer(image, second_try=True, version=on.device.profile.version)[-1]
    assert isinstance(accept, frames.Accept)
    if accept.offset < len(image):
        on.data(accept.session, 0, image=image)
    on.ask(frames.Finish(accept.session))
    on.activate(accept.session, hashlib.sha256(image).digest(), trial_s)
    on.wait(0.5)


def receiver_in_c(facts: dict[str, str], boot_ids: Iterator[int]) -> Replay:
    """Bring a device into the state that a conversation begins in, by protocol alone."""
    numbers = {name: int(facts[name], 0) for name in NUMBERS}
    features = int(facts["features"], 0)
    tried = bytes.fromhex(facts.get("tried_image", ""))
    count, state = int(facts.get("tried_count", "0")), ImageState(int(facts.get("image_state", "0")))
    running = bytes.fromhex(facts.get("running_image", ""))
    before = count + (state is ImageState.REVERTED)
    on = c_bench(
        PROFILE,
        running=None if state is ImageState.ON_TRIAL else running,
        boot_ids=itertools.chain(range(1, before + 1), boot_ids),
        **{name: facts[name] for name in ("app_id", "hardware_id", "device_id", "version")},
        **numbers,
        can_set_baud=bool(features & 1),
        can_revert=bool(features & 2),
        can_short_data=bool(features & 4),
        max_datagram=int(facts["packet"]) if "packet" in facts else None,
    )
    for _ in range(1, count):
        on.cut_at_flag(tried)
    if count:
        try_image(on, tried, TRIAL_S if state is ImageState.REVERTED else 600)
    if state is ImageState.REVERTED:
        on.wait(TRIAL_S + 0.5)
    return Replay(on.device, on.packet, on.now)


def receiver_in_python(facts: dict[str, str], boot_ids: Iterator[int]) -> Replay:
    """Put what the conversation begins with into the flash of a device."""
    numbers = {name: int(facts[name], 0) for name in NUMBERS}
    features = int(facts["features"], 0)
    profile = DeviceProfile(
        app_id=facts["app_id"],
        version=facts["version"],
        hardware_id=facts["hardware_id"],
        device_id=facts["device_id"],
        can_set_baud=bool(features & 1),
        can_revert=bool(features & 2),
        can_short_data=bool(features & 4),
        **numbers,  # type: ignore[arg-type]  # mypy cannot match a dict with keywords
    )
    flash, files = blank_flash(profile), MemoryFileStore()
    running = bytes.fromhex(facts.get("running_image", ""))
    tried = bytes.fromhex(facts.get("tried_image", ""))
    state = int(facts.get("image_state", "0"))
    if running and state != ImageState.ON_TRIAL:
        files.write("active.bin", running)
    bootloader = Bootloader(files, profile)
    if tried:
        FlashJournal(flash, area_size=profile.journal_area).tried(
            hashlib.sha256(tried).digest(), int(facts["tried_count"])
        )
    if state:
        bootloader.set_flag(tried, profile.version, 0 if state == ImageState.REVERTED else 600)
        bootloader.boot(0.0)
    receiver = Receiver(profile, flash=flash, bootloader=bootloader, boot_ids=boot_ids)
    packet = int(facts["packet"]) if "packet" in facts else None
    if packet is not None:
        receiver.connect(packet)
    return Replay(receiver, packet)


MAKERS = {"python": receiver_in_python, "c": receiver_in_c}


@pytest.mark.parametrize("who", MAKERS)
@pytest.mark.parametrize("path", CONVERSATIONS, ids=lambda path: path.stem)
def test_golden_conversation(path: Path, who: str) -> None:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    boot_ids = [int(number, 0) for number in re.findall(r"boot_id=(\w+)", "\n".join(lines))]
    replay = MAKERS[who](dict(fact.split("=", 1) for fact in lines[0].split()[1:]), iter(boot_ids))
    expected: list[str] = []
    said = "device"
    for line in [*lines[1:], "> "]:
        verb, _, rest = line.partition(" ")
        if verb == "<":
            expected.append(rest)
            continue
        answers = [answer.hex() for answer in replay.compared_answers()]
        assert len(answers) == len(expected), f"after {said}: {answers}, expected {expected}"
        for answer, pattern in zip(answers, expected, strict=True):
            assert re.fullmatch(pattern.replace("?", "[0-9a-f]"), answer), f"after {said}"
        expected, said = [], line
        if verb == ">":
            replay.say(bytes.fromhex(rest))
        elif answers != ["0a01"]:  # after ACTIVATED it has restarted by itself
            replay.device.power_cut(replay.now)
            replay.settle()


def test_there_are_conversations() -> None:
    assert len(CONVERSATIONS) >= 8
