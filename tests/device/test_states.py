"""The state table of docs/protocol.md, and hostile input in every state, asked of both receivers."""

import hashlib
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab.c_receiver_bench import c_bench
from lab.rcp.devices import Device
from lab.receiver_bench import IMAGE, OLD, SHA, Bench, error, python_bench, without_busy

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.codes import RcpCode
from gatewayd.protocol.rcp.framing import encode_stream
from gatewayd.protocol.rcp.tlv_frames import Confirm, Confirmed, Hello, Info

Frame = frames.Frame
AnyBench = Bench[Device]
RECEIVERS: dict[str, Callable[..., AnyBench]] = {"python": python_bench, "c": c_bench}
LARGE = IMAGE * 7  # 16 blocks: it erases for longer than the tests ask


def to_prepare(on: AnyBench) -> int:
    busy = on.offer(LARGE)[-1]
    assert isinstance(busy, frames.Busy)
    return busy.session


def to_hash(on: AnyBench) -> int:
    session = on.bring_in()
    on.ask(frames.Finish(session))
    return session


def to_restart(on: AnyBench) -> int:
    session = on.stage()
    on.activate(session)
    return session


STATES: dict[str, Callable[[AnyBench], int]] = {
    "IDLE": lambda _on: 1,
    "PREPARE": to_prepare,
    "RECV": lambda on: on.bring_in(upto=2048),
    "FULL": lambda on: on.bring_in(),
    "HASH": to_hash,
    "STAGED": lambda on: on.stage(),
    "RESTART": to_restart,
}
ACK, NAK, BUSY = frames.Ack, frames.Nak, frames.Busy
N, B, R, S = RcpCode.NO_SESSION, RcpCode.BAD_STATE, RcpCode.RESTARTING, RcpCode.NOT_STAGED
TABLE = {
    #           OFFER          DATA probe FINISH           ACTIVATE          SET_BAUD
    "IDLE": (frames.Accept, N, N, N, N, frames.BaudOk),
    "PREPARE": (BUSY, BUSY, BUSY, BUSY, S, B),
    "RECV": (frames.Accept, ACK, ACK, NAK, S, B),
    "FULL": (frames.Accept, ACK, ACK, frames.Finished, S, B),
    "HASH": (frames.Accept, BUSY, BUSY, BUSY, BUSY, B),
    "STAGED": (frames.Accept, ACK, ACK, frames.Finished, frames.Activated, B),
    "RESTART": (R, R, R, R, frames.Activated, R),
}
FIRST_BOOT = 1
REQUESTS = ("OFFER", "DATA", "probe", "FINISH", "ACTIVATE", "SET_BAUD")


# HASH lasts no time on the bench of the receiver in C.
IN_STATES = [(who, state) for who in RECEIVERS for state in STATES if (who, state) != ("c", "HASH")]
in_every_state = pytest.mark.parametrize(("who", "state"), IN_STATES)


def in_state(who: str, state: str) -> tuple[AnyBench, int]:
    on = RECEIVERS[who](erase_s=1.0 if state == "PREPARE" else 0.0)
    session = STATES[state](on)
    assert on.device.state == state
    return on, session


def request(on: AnyBench, session: int, name: str) -> list[Frame]:
    if name == "OFFER":
        return on.offer(LARGE if on.device.state == "PREPARE" else IMAGE, session=session)
    asked: dict[str, Callable[[], list[Frame]]] = {
        "DATA": lambda: on.data(session, 2048),
        "probe": lambda: on.ask(frames.Data(session, 0)),
        "FINISH": lambda: on.ask(frames.Finish(session)) + on.wait(),
        "ACTIVATE": lambda: on.ask(frames.Activate(session, SHA, FIRST_BOOT, 600)),
        "SET_BAUD": lambda: on.ask(frames.SetBaud(0, 921600)),
    }
    return asked[name]()


def hears_when_a_block_is_erased(who: str, state: str) -> bool:
    """The receiver in C erases in its main loop, the one in Python beside it."""
    return (who, state) == ("c", "PREPARE")


CASES = [(who, state, name, TABLE[state][at]) for who, state in IN_STATES for at, name in enumerate(REQUESTS)]


@pytest.mark.parametrize(("who", "state", "name", "expected"), CASES)
def test_every_state_answers_every_request(
    who: str, state: str, name: str, expected: RcpCode | type[Frame]
) -> None:
    on, session = in_state(who, state)
    if state == "PREPARE":
        on.wait(1.0)  # a block has been erased; the next one is under way
    answers = request(on, session, name)
    late = hears_when_a_block_is_erased(who, state)
    if late:
        answers = answers or on.wait(1.0)
    if isinstance(expected, RcpCode):
        assert (answers[:1] if late else answers) == error(0 if name == "SET_BAUD" else session, expected)
    elif (state, name) == ("HASH", "FINISH"):
        assert isinstance(answers[0], expected)
    else:
        assert isinstance(answers[-1], expected)


# Only after a restart there is something left to hash. On the bench that lasts no time: the requests lie in
# the ring behind FINISH.

HASH_ANSWERS: dict[str, RcpCode | type[Frame]] = {
    "OFFER": frames.Accept,
    "DATA": BUSY,
    "probe": BUSY,
    "FINISH": BUSY,
    "ACTIVATE": BUSY,
    "SET_BAUD": B,
}


@pytest.mark.parametrize("name", HASH_ANSWERS)
def test_requests_while_the_receiver_in_c_hashes(name: str) -> None:
    on = c_bench()
    session = on.bring_in()
    on.device.power_cut(on.now)
    info = on.hello()
    asked: dict[str, Frame] = {
        "OFFER": on.make_offer(session),
        "DATA": frames.Data(session, 2048, bytes(8)),
        "probe": frames.Data(session, 0),
        "FINISH": frames.Finish(session),
        "ACTIVATE": frames.Activate(session, SHA, info.boot_id, 600),
        "SET_BAUD": frames.SetBaud(0, 921600),
    }
    for request in (on.make_offer(session), frames.Finish(session), asked[name]):
        on.device.queue(encode_stream(request.to_bytes()))
    accept, *answers = on.wait()
    expected = HASH_ANSWERS[name]
    assert isinstance(accept, frames.Accept)
    assert isinstance(answers[0], BUSY)  # to FINISH
    if isinstance(expected, RcpCode):
        assert answers[1] == error(0, expected)[0]
    else:
        assert isinstance(answers[1], expected)
    last = frames.Accept if name == "OFFER" else frames.Finished
    assert isinstance(answers[-1], last)


@in_every_state
def test_hello_confirm_and_abort_are_answered_everywhere(who: str, state: str) -> None:
    on, session = in_state(who, state)

    def told(request: Frame) -> list[Frame]:
        answers = on.ask(request)
        return without_busy(answers + on.wait(1.0)) if hears_when_a_block_is_erased(who, state) else answers

    assert [type(answer) for answer in told(Hello(5, "bench"))] == [Info]
    assert told(Confirm(6, version="1.0.0")) == [Confirmed(6)]
    assert told(frames.Abort(0, 0)) == [frames.Aborted(0)]
    if state != "RESTART":
        assert told(frames.Data(session, 0)) == error(session, RcpCode.NO_SESSION)


def told_to_everything(on: AnyBench, session: int) -> list[type[Frame]]:
    """What it says, without INFO, and BUSY once however often it is said."""
    told = [answer for name in REQUESTS for answer in request(on, session, name)] + on.wait(7.5)
    kinds = (type(answer) for answer in told if not isinstance(answer, Info))
    return [kind for kind, _ in itertools.groupby(kinds)]


@in_every_state
def test_hello_changes_nothing(who: str, state: str) -> None:
    asked, session = in_state(who, state)
    asked.ask(Hello(5, "bench"))
    assert told_to_everything(asked, session) == told_to_everything(*in_state(who, state))


@pytest.mark.parametrize("state", STATES)
def test_hello_changes_no_answer_of_the_receiver_in_python(state: str) -> None:
    (asked, session), (unasked, _) = in_state("python", state), in_state("python", state)
    asked.ask(Hello(5, "bench"))
    for name in REQUESTS:
        assert [type(a) for a in request(asked, session, name)] == [
            type(a) for a in request(unasked, session, name)
        ]


@in_every_state
@given(data=st.lists(st.binary(max_size=60), max_size=12))
@settings(max_examples=40)
def test_random_frames_leave_it_sane(who: str, state: str, data: list[bytes]) -> None:
    on, _ = in_state(who, state)
    for content in data:
        on.say(encode_stream(content))
        on.say(content)
        on.wait(0.01)
    on.say(b"\0")
    on.wait(40)
    assert on.hello().app_id == "pump"
    assert on.device.running_image in (OLD, IMAGE)
    assert on.unsound == 0


@pytest.mark.parametrize("who", RECEIVERS)
@given(
    requests=st.lists(
        st.tuples(st.sampled_from(REQUESTS), st.integers(0, 3), st.integers(0, 9001)), max_size=30
    ),
    data=st.data(),
)
@settings(max_examples=150)
def test_requests_in_any_order_never_start_a_wrong_image(
    who: str, requests: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    on, _ = in_state(who, data.draw(st.sampled_from([state for one, state in IN_STATES if one == who])))
    for name, session, offset in requests:
        if name == "DATA":
            on.ask(frames.Data(session or 1, offset, IMAGE[offset : offset + 500][::-1]))
        elif name != "OFFER" or session:
            request(on, session or 1, name)
        on.wait(0.05)
    on.wait(10)
    running = on.device.running_image
    assert running == OLD or hashlib.sha256(running or b"").digest() == SHA
