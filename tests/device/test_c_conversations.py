"""The golden conversations: what the receiver in C answers is what docs/protocol.md says."""

import hashlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.c_receiver_bench import CBench, c_bench
from lab.rcp.radio import Reader
from lab.receiver_bench import PROFILE

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.base import FrameType
from gatewayd.protocol.session import ImageState

VECTORS = Path(__file__).parent.parent / "vectors" / "rcp"
CONVERSATIONS = sorted(VECTORS.glob("conversation-*.txt"))
NUMBERS = (
    *("max_frame", "window", "rx_ring", "slot_address"),
    *("slot_size", "erase_block", "write_unit", "boot_time_s"),
)
SETTLE_S = 4.9
TRIAL_S = 1


def try_image(on: CBench, image: bytes, trial_s: int) -> None:
    """Have it start an image."""
    accept = on.offer(image, second_try=True, version=on.device.profile.version)[-1]
    assert isinstance(accept, frames.Accept)
    if accept.offset < len(image):
        on.data(accept.session, 0, image=image)
    on.ask(frames.Finish(accept.session))
    on.activate(accept.session, hashlib.sha256(image).digest(), trial_s)
    on.wait(0.5)


def make_device(facts: dict[str, str], boot_ids: Iterator[int]) -> CBench:
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
    return on


def settle(on: CBench) -> list[bytes]:
    """Let it work for less than 5 s; return what it says but BUSY."""
    reader, end, found = Reader(on.packet, 512), on.now + SETTLE_S, list[bytes]()
    device = on.device
    while True:
        while wire := device.data_to_send(on.now):
            found += [content for content in reader.contents(wire) if isinstance(content, bytes)]
        due = device.next_deadline()
        if due is None or due > end:
            return [content for content in found if content[0] != FrameType.BUSY]
        on.now = max(on.now, due)
        device.handle_timeout(on.now)


@pytest.mark.parametrize("path", CONVERSATIONS, ids=lambda path: path.stem)
def test_golden_conversation(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    boot_ids = [int(number, 0) for number in re.findall(r"boot_id=(\w+)", "\n".join(lines))]
    on = make_device(dict(fact.split("=", 1) for fact in lines[0].split()[1:]), iter(boot_ids))
    answers: list[str] = []
    said = "the device's first line"
    for line in [*lines[1:], "end"]:
        verb, _, rest = line.partition(" ")
        if verb == "<":
            assert answers, f"nothing after {said}, expected {rest}"
            assert re.fullmatch(rest.replace("?", "[0-9a-f]"), answers.pop(0)), f"after {said}"
            was_activated = rest == "0a01"
            continue
        assert not answers, f"after {said}, too: {answers}"
        if verb == ">":
            said, was_activated = line, False
            on.device.receive_data(bytes.fromhex(rest), on.now)
            answers = [content.hex() for content in settle(on)]
        elif verb == "restart" and not was_activated:  # after ACTIVATED it has restarted by itself
            on.device.power_cut(on.now)
            assert settle(on) == []


def test_there_are_conversations() -> None:
    assert len(CONVERSATIONS) >= 8
