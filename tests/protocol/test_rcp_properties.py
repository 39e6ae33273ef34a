"""Whatever the line, the device and fate do: the right image or a clean failure, in bounded time.

The lab checks the rest all the time: one outcome each, no spinning, credit and window kept.
"""

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from lab.rcp.devices import DEVICES, OLD, PROFILE, python_device
from lab.rcp.joined import Lab, make_image, rcp_gateway
from lab.rcp.line import Faults
from lab.rcp.script import INFO, Script

from gatewayd.codes import Again, meaning
from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.codes import RcpCode
from gatewayd.protocol.rcp.framing import DATA_OVERHEAD, encode_stream
from gatewayd.protocol.rcp.tlv_frames import Confirm, Confirmed, Hello, Info, Offer
from gatewayd.protocol.session import Failed, Identified, Staged
from gatewayd.simulator.profile import DeviceProfile

pytestmark = pytest.mark.slow

FAST = 921600
IMAGE = make_image(6000)
SIZE = len(IMAGE.content)
LAVISH = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@dataclass(frozen=True)
class Fate:
    """What happens to an update from outside."""

    profile: DeviceProfile
    size: int
    latency_s: float
    faults: Faults
    power_cuts: list[float]  # seconds from the beginning
    kills: list[float]
    flash_cut: int | None
    transfer_baud: int | None
    seed: int


def rates(*most: float) -> st.SearchStrategy[float]:
    return st.sampled_from((0.0, 0.0, *most))


profiles = st.builds(
    DeviceProfile,
    app_id=st.just("pump"),
    version=st.just("1.0.0"),
    slot_size=st.just(65536),
    erase_block=st.sampled_from([2048, 4096, 8192]),
    write_unit=st.sampled_from([1, 8, 32]),
    max_frame=st.sampled_from([138, 266, 1001, 1034]),
    window=st.sampled_from([128, 1024, 4096, 16384]),
    rx_ring=st.sampled_from([160, 1100, 8192]),
    erase_s=st.sampled_from([0.0, 0.0, 0.1]),
)
faults = st.builds(
    Faults,
    flip=rates(1e-5, 1e-4, 1e-3),
    drop=rates(1e-5, 1e-4),
    lose=rates(0.01, 0.2),
    repeat=rates(0.05, 0.3),
    stutter=rates(0.05),
    swap=rates(0.02, 0.2),
    pause=rates(0.02),
    one_byte=st.booleans(),
)
times = st.floats(0.0, 6.0, allow_nan=False)
fates = st.builds(
    Fate,
    profile=profiles,
    size=st.integers(1, 12_000),
    latency_s=st.sampled_from([0.0, 0.005, 0.4]),
    faults=faults,
    power_cuts=st.lists(times, max_size=2),
    kills=st.lists(times, max_size=2),
    flash_cut=st.none() | st.integers(1, 300),
    transfer_baud=st.sampled_from([None, None, FAST]),
    seed=st.integers(0, 1000),
)


@pytest.mark.parametrize("device", DEVICES)
@LAVISH
@given(fate=fates)
def test_the_right_image_or_a_clean_failure_and_in_the_end_the_right_image(device: str, fate: Fate) -> None:
    image = make_image(fate.size, fate.seed)
    profile = fate.profile
    if device == "c":  # which refuses to start with a window that no chunk of its frames fits
        profile = replace(profile, window=max(profile.window, profile.max_frame - DATA_OVERHEAD))
    lab = Lab(
        DEVICES[device](profile),
        partial(rcp_gateway, transfer_baud=fate.transfer_baud),
        latency_s=fate.latency_s,
        faults=fate.faults,
        seed=fate.seed,
    )
    lab.device.flash.cut_at = fate.flash_cut
    for at in fate.power_cuts:
        lab.at(at, lambda: lab.device.power_cut(lab.now))
    for at in fate.kills:
        lab.at(at, lab.kill_gateway)
    outcome = lab.update(image, attempts=2)
    event(outcome.error.code if isinstance(outcome, Failed) else type(outcome).__name__)
    assert lab.device.running_image in (OLD, image.content)

    lab.set_faults(Faults())
    lab.restart_gateway()
    outcome = lab.update(image, attempts=6)
    if isinstance(outcome, Failed) and meaning(outcome.error.code).again is Again.NEVER:
        # Given up for good: only what has been told to start, and is not running, may be.
        assert any(isinstance(frame, frames.Activate) for frame in lab.seen)
        assert lab.device.running_image == OLD
    else:
        assert isinstance(outcome, Identified), outcome
        assert lab.device.running_image == image.content


# Every frame in every state


def answers(session: int, nonce: int) -> list[bytes]:
    """Return everything that may come, fitting or not: in the session, in another one, and in none."""
    sha256, other = IMAGE.sha256, bytes(32)
    said: list[frames.Frame] = [
        Info(nonce, INFO),
        Info(nonce ^ 1, INFO),
        Confirmed(nonce),
        Confirmed(nonce ^ 1),
    ]
    said += [frames.BaudOk(0, FAST, FAST), frames.BaudOk(0, FAST, 9600), frames.BaudOk(0, 9600, 9600)]
    # That one is for ever, and rightly so.
    codes = [*(set(RcpCode) - {RcpCode.ALREADY_TRIED}), 0x01EE, 0x02EE, 0x03EE, 0xFFFF]
    for number in (session or 1, (session or 1) % 255 + 1):
        said += [
            frames.Accept(number, 0, 0, 4096),
            frames.Accept(number, SIZE, zlib.crc32(IMAGE.content), SIZE),
            frames.Accept(number, 2**32 - 1, 0, 0),
            frames.HaveIt(number, sha256),
            frames.HaveIt(number, other),
            frames.Finished(number, sha256),
            frames.Finished(number, other),
            frames.Activated(number),
            frames.Ack(number, 0, 0, 0),
            frames.Ack(number, SIZE, 0, SIZE),
            frames.Ack(number, 2**32 - 1, 2**32 - 1, 2**32 - 1),
            frames.Nak(number, 0, 0, 4096),
            frames.Nak(number, SIZE, SIZE, SIZE),
            frames.Data(number, 0, b"echo"),
            frames.Finish(number),
            frames.Activate(number, sha256, 1, 1),
            Offer(number, sha256, SIZE, "1.0.1"),
            *(frames.Refuse(number, code) for code in codes),
        ]
    for number in (session, 0):
        said += [frames.Aborted(number), frames.Busy(number, 100), frames.Busy(number, 2**32 - 1)]
        said += [frames.NotNow(number, 1, 0), frames.Abort(number, 0)]
        said += [frames.Error(number, code) for code in codes]
    said += [Hello(nonce, "echo"), frames.SetBaud(0, FAST), Confirm(nonce, sha256=sha256)]
    wires = [encode_stream(frame.to_bytes()) for frame in said]
    broken = [b"\0\x07\x01\x02\0", b"\0" * 9, b"\0panic: stack overflow\r\n\0", b"\xff" * 600, wires[0][:-3]]
    return wires + broken + [encode_stream(content) for content in (b"\x77\x01", b"\x04\x01short", b"\x41\0")]


STATES = [Hello, frames.SetBaud, Offer, frames.Data, frames.Finish, frames.Activate, Confirm]


def lab_with(hook: Callable[[Lab, frames.Frame], None], seed: int) -> Lab:
    lab = Lab(python_device(PROFILE), partial(rcp_gateway, transfer_baud=FAST), latency_s=0.001, seed=seed)

    def look(frame: frames.Frame) -> bool:
        hook(lab, frame)
        return False

    lab.losing = look
    return lab


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_whatever_comes_in_whatever_state_the_session_lives_and_the_update_gets_there(
    state: type[frames.Frame],
) -> None:
    for number in range(len(answers(1, 1))):
        pending = [state]

        def inject(
            lab: Lab, frame: frames.Frame, number: int = number, pending: list[type] = pending
        ) -> None:
            if pending and isinstance(frame, pending[0]):
                pending.pop()
                wire = answers(getattr(frame, "session", 0), getattr(frame, "nonce", 7))[number]
                lab.at(0.0, lambda: lab.say(wire))

        lab = lab_with(inject, number)
        outcome = lab.update(IMAGE, attempts=4)
        assert not pending
        assert isinstance(outcome, Identified), f"after {answers(1, 1)[number].hex()}: {outcome}"
        assert lab.device.running_image == IMAGE.content


def test_whatever_comes_while_nothing_is_under_way_changes_nothing() -> None:
    for wire in answers(1, 1):
        lab = Lab(python_device())
        lab.say(wire)
        assert isinstance(lab.identify(), Identified)
        lab.say(wire)
        staged = lab.transfer(IMAGE)
        assert isinstance(staged, Staged), f"after {wire.hex()}: {staged}"
        lab.say(wire)
        lab.session.handle_timeout(lab.now)
        lab.activate()
        lab.say(wire)
        assert isinstance(lab.update(IMAGE), Identified), wire.hex()


# Bytes


WAYS_IN: dict[str, Callable[[Script], object]] = {
    "idle": lambda _script: None,
    "hello": lambda script: script.session.identify(script.now, 5.0),
    "offer": Script.offered,
    "data": Script.sending,
    "finish": Script.finishing,
    "staged": Script.staged,
    "activate": Script.activating,
    "confirm": lambda script: script.identified().session.confirm(IMAGE, script.now),
}


@pytest.mark.parametrize("state", WAYS_IN)
@settings(max_examples=60)
@given(data=st.data())
def test_bytes_of_any_kind_never_raise_and_time_stays_bounded(state: str, data: st.DataObject) -> None:
    script = Script()
    WAYS_IN[state](script)
    script.sent()
    frame = getattr(script.session, "_session", 0)
    wires = answers(frame, data.draw(st.integers(0, 2**32 - 1)))
    pieces = st.binary(max_size=80) | st.sampled_from(wires) | st.sampled_from(wires).flatmap(spoilt)
    for piece in data.draw(st.lists(pieces, max_size=12)):
        script.session.receive_data(piece, script.now)
        script.sent()
        if data.draw(st.booleans()):
            script.silence_for(0.5)
    script.silence_for(2000.0)
    due = script.session.next_deadline()
    assert due is None, f"still waiting after 2000 s of silence; events: {script.events[-3:]}"


def spoilt(wire: bytes) -> st.SearchStrategy[bytes]:
    """Flip a bit, cut, double a part."""
    at = st.integers(0, len(wire) - 1)
    flipped = at.map(lambda place: wire[:place] + bytes([wire[place] ^ 1 << place % 8]) + wire[place + 1 :])
    return (
        flipped | at.map(lambda place: wire[:place]) | at.map(lambda place: wire[: place + 5] + wire[place:])
    )


def test_faults_are_repeatable() -> None:
    """A failure that hypothesis finds can be looked at again: nothing here depends on the clock."""

    def story() -> list[frames.Frame]:
        random.seed()
        lab = Lab(python_device(), faults=Faults(flip=1e-4, lose=0.05, swap=0.05, pause=0.02), seed=5)
        lab.update(IMAGE, attempts=3)
        return lab.seen

    assert story() == story()
