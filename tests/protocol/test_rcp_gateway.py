"""The session as its caller sees it: the order of calls, events, deadlines, errors, both kinds of link."""

import random
from collections.abc import Callable

import pytest
from lab.rcp.script import IMAGE, INFO, Script, is_whole, payloads

from gatewayd.errors import DeviceError, LinkError
from gatewayd.protocol.console import console_lines
from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.codes import RcpCode, Remedy, code_name, remedy
from gatewayd.protocol.rcp.framing import encode_stream, seal
from gatewayd.protocol.rcp.gateway import RcpGateway
from gatewayd.protocol.rcp.tlv_frames import Confirm, Hello, Info, Offer
from gatewayd.protocol.session import (
    OUTCOMES,
    Activated,
    AlreadyRunning,
    Armed,
    Confirmed,
    Console,
    Deferred,
    Failed,
    Identified,
    Outcome,
    Progress,
    Staged,
    TransferStarted,
)

FAST = 921600
Operation = Callable[[Script], None]


def failure(script: Script) -> DeviceError | LinkError:
    outcome = script.outcome()
    assert isinstance(outcome, Failed), outcome
    assert isinstance(outcome.error, DeviceError | LinkError)
    return outcome.error


# The order of calls

OPERATIONS: dict[str, Operation] = {
    "identify": lambda script: script.session.identify(script.now, 5.0),
    "transfer": lambda script: script.session.transfer(IMAGE, script.now),
    "activate": lambda script: script.session.activate(600, script.now),
    "confirm": lambda script: script.session.confirm(IMAGE, script.now),
}


def confirming(script: Script) -> None:
    script.identified().session.confirm(IMAGE, script.now)


SITUATIONS: dict[str, tuple[Callable[[Script], object], set[str]]] = {
    "new": (lambda _script: None, {"identify"}),
    "in HELLO": (OPERATIONS["identify"], set()),
    "identified": (lambda script: script.identified(), {"identify", "transfer", "confirm"}),
    "in OFFER": (lambda script: script.offered(), set()),
    "in DATA": (lambda script: script.sending(), set()),
    "in FINISH": (lambda script: script.finishing(), set()),
    "staged": (lambda script: script.staged(), {"identify", "activate"}),
    "in ACTIVATE": (lambda script: script.activating(), set()),
    "in CONFIRM": (confirming, set()),
}


RCP_OUTCOMES = [outcome for outcome in OUTCOMES if outcome is not Armed]  # it activates in one step


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_an_operation_out_of_order_raises_and_changes_nothing(situation: str, operation: str) -> None:
    script = Script()
    reach, allowed = SITUATIONS[situation]
    reach(script)
    script.sent()
    if operation in allowed:
        OPERATIONS[operation](script)
        assert script.sent()
        return
    deadline = script.session.next_deadline()
    with pytest.raises(RuntimeError):
        OPERATIONS[operation](script)
    assert script.session.next_deadline() == deadline
    assert script.sent() == []


def end_in(outcome: type[Outcome], script: Script) -> None:
    """Lead the session to an outcome."""
    if outcome is Identified:
        script.identified()
    elif outcome is Staged:
        script.staged()
    elif outcome is Activated:
        script.say(frames.Activated(script.activating().session))
    elif outcome is Confirmed:
        confirming(script)
        (confirm,) = script.sent()
        assert isinstance(confirm, Confirm)
        script.say(frames.Confirmed(confirm.nonce))
    else:
        number = script.offered().session
        answers: dict[type[Outcome], frames.Frame] = {
            AlreadyRunning: frames.HaveIt(number, IMAGE.sha256),
            Deferred: frames.NotNow(number, 30, 2),
            Failed: frames.Refuse(number, RcpCode.TOO_LARGE),
        }
        script.say(answers[outcome])


@pytest.mark.parametrize("outcome", RCP_OUTCOMES, ids=lambda outcome: outcome.__name__)
def test_identify_may_follow_every_outcome(outcome: type[Outcome]) -> None:
    script = Script()
    end_in(outcome, script)
    assert isinstance(script.outcome(), outcome)
    script.events.clear()
    script.identified()


@pytest.mark.parametrize("outcome", RCP_OUTCOMES, ids=lambda outcome: outcome.__name__)
def test_after_an_outcome_there_is_silence(outcome: type[Outcome]) -> None:
    script = Script()
    end_in(outcome, script)
    assert script.session.next_deadline() is None
    script.session.handle_timeout(script.now + 1000)
    assert script.session.data_to_send(script.now + 1000) == b""


# Events


def test_a_transfer_tells_how_far_it_is() -> None:
    script = Script()
    (data, *_) = script.sending()
    assert isinstance(data, frames.Data)
    assert TransferStarted(0, 20_000) in script.events
    script.say(frames.Ack(data.session, 1024, 0, 5120), frames.Ack(data.session, 2048, 512, 6144))
    assert script.events[-1] == Progress(2048, 512, 20_000)
    told = [event.received for event in script.events if isinstance(event, Progress)]
    assert told == [2048]  # nobody had asked before there was news


def test_what_is_sent_again_is_counted() -> None:
    script = Script()
    (data, *_) = script.sending()
    assert isinstance(data, frames.Data)
    again = payloads(script.say(frames.Nak(data.session, 1024, 0, 4096)))
    assert is_whole(again, 1024, 4096)
    repeated = sum(size for _, size in again)
    traffic = script.session.traffic
    assert (traffic.image_bytes_sent, traffic.image_bytes_repeated) == (4096 + repeated, repeated)
    script.silence()
    assert traffic.probes == 1


def test_text_between_frames_is_told_line_by_line() -> None:
    script = Script()
    script.session.identify(script.now, 5.0)
    script.session.receive_data(b"\x1b[0;32mI (31) boot: ok\x1b[0m\r\nready\r\n\0", script.now)
    script.sent()
    assert script.events == [Console("I (31) boot: ok"), Console("ready")]
    assert script.session.traffic.broken_frames == 0


def test_noise_is_counted_and_not_told() -> None:
    script = Script()
    script.session.identify(script.now, 5.0)
    script.session.receive_data(b"\x93\x81\x05\xfe\x01\x02\0", script.now)
    script.sent()
    assert script.events == []
    assert script.session.traffic.broken_frames == 1


def test_text_without_end_is_kept_in_bounds() -> None:
    script = Script()
    for _ in range(1000):
        script.session.receive_data(b"all work and no play " * 50 + b"\0", script.now)
    script.sent()
    assert len(script.events) == 64
    assert all(len(event.text) <= 200 for event in script.events if isinstance(event, Console))


@pytest.mark.parametrize(
    ("run", "lines"),
    [
        (b"hello\n\nworld", ["hello", "world"]),
        ("Pumpe läuft".encode(), ["Pumpe läuft"]),
        (b"temperature\x07 21", ["temperature. 21"]),
        (b"x" * 450, ["x" * 200, "x" * 200, "x" * 50]),
        (b"!", []),
        (bytes(range(128, 160)), []),
        (b"abc\xff", ["abc."]),
        (b"ab\xff", []),
        (b"   ab\xff   ", []),
        (b"", []),
    ],
)
def test_what_is_text(run: bytes, lines: list[str]) -> None:
    assert console_lines(run) == lines


# Errors


@pytest.mark.parametrize("code", [code for code in RcpCode if remedy(code) is Remedy.GIVE_UP])
def test_a_refusal_says_what_was_refused_and_why(code: RcpCode) -> None:
    script = Script()
    script.say(frames.Refuse(script.offered().session, code))
    error = failure(script)
    assert isinstance(error, DeviceError)
    assert error.code == code_name(code)
    assert "OFFER of 1.0.1 (20000 bytes, free slot 65536)" in error.message
    assert code_name(code) in error.message


def test_a_code_of_a_later_version_is_passed_on() -> None:
    script = Script()
    script.say(frames.Refuse(script.offered().session, 0x03EE))
    assert failure(script).code == "code_03ee"


def test_silence_is_a_link_error_that_says_how_long_and_how_fast() -> None:
    script = Script()
    script.session.identify(script.now, 5.0)
    script.silence_for(5.0)
    error = failure(script)
    assert isinstance(error, LinkError)
    assert error.code == "no_answer"
    assert "HELLO within 5 s at 115200 baud" in error.message


def test_silence_to_confirm_is_a_link_error() -> None:
    script = Script()
    confirming(script)
    script.silence_for(30.0)
    error = failure(script)
    assert isinstance(error, LinkError)
    assert error.code == "no_answer"


def test_an_info_that_makes_no_sense_is_named_when_no_better_one_comes() -> None:
    script = Script()
    script.session.identify(script.now, 5.0)
    (hello,) = script.sent()
    assert isinstance(hello, Hello)
    content = bytearray(Info(hello.nonce, INFO).to_bytes())
    window = bytes((0x17, 4)) + (4096).to_bytes(4, "little")
    bad = bytes(content.replace(window, bytes((0x17, 4, 0, 0, 0, 0))))
    script.session.receive_data(encode_stream(bad), script.now)
    script.silence_for(5.0)
    error = failure(script)
    assert error.code == "malformed"
    assert "window is 0" in error.message


def test_a_device_that_cannot_read_hello_is_named() -> None:
    script = Script()
    script.session.identify(script.now, 5.0)
    script.say(frames.Error(0, RcpCode.UNKNOWN_CRITICAL_TAG))
    script.silence_for(5.0)
    assert failure(script).code == "unknown_critical_tag"


def test_an_error_of_before_does_not_spoil_identify() -> None:
    script = Script()
    script.session.identify(script.now, 5.0)
    script.say(frames.Error(0, RcpCode.NOT_RUNNING))
    script.silence_for(5.0)
    assert failure(script).code == "no_answer"


def test_a_device_of_another_protocol_version() -> None:
    script = Script()
    script.session.identify(script.now, 5.0)
    (hello,) = script.sent()
    assert isinstance(hello, Hello)
    script.say(Info(hello.nonce, INFO, protocol_min=2, protocol_max=3))
    error = failure(script)
    assert error.code == "protocol_version"
    assert "versions 2 to 3" in error.message


def test_a_device_that_is_always_busy_says_where() -> None:
    script = Script()
    finish = script.finishing()
    script.say(frames.Busy(finish.session, 60_001))
    error = failure(script)
    assert isinstance(error, DeviceError)
    assert error.code == "stalled"
    assert "FINISH" in error.message


def test_an_image_on_trial_is_not_waited_for_here() -> None:
    script = Script()
    script.say(frames.Refuse(script.offered().session, RcpCode.ON_TRIAL))
    assert failure(script).code == "on_trial"


def test_not_now_in_mid_transfer_is_passed_on() -> None:
    script = Script()
    (data, *_) = script.sending()
    assert isinstance(data, frames.Data)
    script.say(frames.NotNow(data.session, 600, 2))
    assert script.outcome() == Deferred(600, 2)


# Datagrams


def test_on_datagrams_a_frame_travels_bare() -> None:
    rng = random.Random(2)
    session = RcpGateway("gw", base_baud=115200, transfer_baud=FAST, datagram=True, random=rng)
    session.set_max_datagram(182)
    session.identify(0.0, 5.0)
    wire = session.data_to_send(0.0)
    hello = frames.decode(wire[:-4])
    assert isinstance(hello, Hello)
    assert wire == seal(hello.to_bytes())
    session.receive_data(b"noise\xff\xfe\xfd\xfc", 0.0)
    session.receive_data(seal(Info(hello.nonce, INFO).to_bytes()), 0.0)
    assert session.next_event() == Identified(INFO.common)
    session.transfer(IMAGE, 0.0)
    assert isinstance(frames.decode(session.data_to_send(0.0)[:-4]), Offer)  # no speed to change
