"""The session's ways back after a setback, and the speed of the line."""

import dataclasses
import itertools
import random
import zlib

import pytest
from lab.rcp.script import IMAGE, INFO, Script

from gatewayd.errors import LinkError
from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.codes import RcpCode
from gatewayd.protocol.rcp.gateway import RcpGateway
from gatewayd.protocol.rcp.tlv_frames import Confirm, Hello, Offer
from gatewayd.protocol.request import Request
from gatewayd.protocol.session import Activated, Failed, Identified, LineSpeed, Staged

FAST = 921600


def test_hello_after_a_setback_waits_longer_each_time() -> None:
    script, waits = Script(), []
    offer = script.offered()
    for _ in range(4):
        said_at = script.now
        answers = script.say(frames.Error(offer.session, RcpCode.RESTARTING))
        hello = answers[0] if answers else script.silence_until(Hello)
        waits.append(round(script.now - said_at, 3))
        (again,) = script.greet(hello)
        assert isinstance(again, Offer)
        offer = again
    assert waits == [0.0, 0.25, 0.5, 0.75]


def test_a_repeated_request_doubles_its_pause_to_a_second() -> None:
    script, times = Script(), []
    script.offered()
    for _ in range(5):
        script.silence_until(Offer)
        times.append(script.now)
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    wire_s = pauses[-1] - 1.0
    assert 0 < wire_s < 0.02
    assert [round(pause - wire_s, 3) for pause in pauses] == [0.4, 0.8, 1.0, 1.0]


def test_silence_in_offer_leads_to_hello() -> None:
    script = Script()
    script.offered()
    repeated = [type(frame) for frame in script.silence_for(20.0)]
    assert repeated[:15] == [Offer] * 15
    assert set(repeated[15:]) == {Hello}


def test_in_a_transfer_hello_outlasts_a_boot() -> None:
    script = Script()
    offer = script.offered()
    began = script.now
    script.say(frames.Error(offer.session, RcpCode.NO_SESSION))
    while not isinstance(outcome := script.outcome(), Failed):
        script.silence()
    assert isinstance(outcome.error, LinkError)
    assert outcome.error.code == "no_answer"
    assert script.now - began == pytest.approx(5.0 + INFO.boot_time_s)


def test_a_boot_of_hours_is_not_waited_for() -> None:
    script = Script(info=dataclasses.replace(INFO, boot_time_s=65535))
    offer = script.offered()
    script.say(frames.Error(offer.session, RcpCode.NO_SESSION))
    script.silence_for(305.5)
    assert error_code(script) == "no_answer"


def accepted(script: Script, offer: Offer, offset: int = 0) -> None:
    crc = zlib.crc32(IMAGE.content[:offset])
    script.say(frames.Accept(offer.session, offset, crc, offset + 4096))


def offered_again(script: Script, code: RcpCode, session: int) -> Offer:
    """Say no and answer HELLO; return the next offer."""
    answers = script.say(frames.Error(session, code))
    (offer,) = script.greet(answers[0] if answers else None)
    assert isinstance(offer, Offer)
    return offer


def error_code(script: Script) -> str:
    outcome = script.outcome()
    assert isinstance(outcome, Failed), outcome
    return outcome.error.code


def test_setbacks_are_counted_anew_after_a_durable_byte() -> None:
    script = Script()
    offer = script.offered()
    for durable in (4096, 8192):
        for _ in range(7):
            offer = offered_again(script, RcpCode.NO_SESSION, offer.session)
        accepted(script, offer, durable - 4096)
        script.say(frames.Ack(offer.session, durable, durable, durable + 4096))
    for _ in range(7):
        offer = offered_again(script, RcpCode.NO_SESSION, offer.session)
    script.say(frames.Error(offer.session, RcpCode.NO_SESSION))
    assert error_code(script) == "no_session"


def test_restarts_are_named_when_they_are_why_nothing_gets_on() -> None:
    script = Script()
    offer = script.offered()
    for boot_id in range(100, 107):
        answers = script.say(frames.Error(offer.session, RcpCode.NO_SESSION))
        (again,) = script.greet(answers[0] if answers else None, boot_id=boot_id)
        assert isinstance(again, Offer)
        offer = again
    script.say(frames.Error(offer.session, RcpCode.NO_SESSION))
    outcome = script.outcome()
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "keeps_restarting"
    assert "restarted 7 times" in outcome.error.message


def test_restarts_behind_stalls_are_named_too() -> None:
    script = Script()
    offer = script.offered()
    for boot_id in (100, 101):
        accepted(script, offer)
        (again,) = script.greet(script.silence_until(Hello), boot_id=boot_id)
        assert isinstance(again, Offer)
        offer = again
    accepted(script, offer)
    while not isinstance(script.outcome(), Failed):
        script.silence()
    assert error_code(script) == "keeps_restarting"


def test_restarts_with_something_stored_in_between_are_none() -> None:
    script = Script()
    offer = script.offered()
    for boot_id in range(100, 120):
        durable = 512 * (boot_id - 99)
        accepted(script, offer, durable - 512)
        script.say(frames.Ack(offer.session, durable, durable, durable + 4096))
        answers = script.say(frames.Error(offer.session, RcpCode.NO_SESSION))
        (again,) = script.greet(answers[0] if answers else None, boot_id=boot_id)
        assert isinstance(again, Offer)
        offer = again


def test_stalls_are_not_forgotten_for_bytes_that_are_not_durable() -> None:
    script = Script()
    offer = script.offered()
    for received in (1024, 2048):
        accepted(script, offer)
        script.say(frames.Ack(offer.session, received, 0, 8192))
        (again,) = script.greet(script.silence_until(Hello))
        assert isinstance(again, Offer)
        offer = again
    accepted(script, offer)
    script.say(frames.Ack(offer.session, 3072, 0, 8192))
    while not isinstance(script.outcome(), Failed):
        script.silence()
    assert error_code(script) == "stalled"


def test_only_one_offer_asks_to_forget_what_there_is() -> None:
    script = Script()
    offer = script.offered()
    (again,) = script.say(frames.Accept(offer.session, 8192, 1, 16384))
    assert isinstance(again, Offer)
    assert again.from_zero
    accepted(script, again)
    assert not offered_again(script, RcpCode.NO_SESSION, again.session).from_zero


def test_an_offset_beyond_the_image_is_no_prefix_whatever_its_crc() -> None:
    script = Script()
    offer = script.offered()
    (again,) = script.say(frames.Accept(offer.session, 20_001, zlib.crc32(IMAGE.content), 20_001))
    assert isinstance(again, Offer)
    assert again.from_zero


def test_a_device_that_has_another_image_than_offered_has_not_answered() -> None:
    script = Script()
    assert script.say(frames.HaveIt(script.offered().session, bytes(32))) == []
    assert script.outcome() == Identified(INFO.common)


@pytest.mark.parametrize("code", [RcpCode.TOO_LARGE, RcpCode.NO_SESSION])
def test_after_a_failure_and_a_restart_the_device_is_not_known_any_more(code: RcpCode) -> None:
    script = Script()
    if code == RcpCode.TOO_LARGE:
        script.say(frames.Refuse(script.offered().session, code))
    else:
        script.say(frames.Error(script.activating().session, code))
    with pytest.raises(RuntimeError, match="identify comes first"):
        script.session.transfer(IMAGE, script.now)


def test_two_offers_in_a_row_have_two_sessions() -> None:
    class Unlucky(random.Random):
        def randrange(self, *_args: int) -> int:  # type: ignore[override]  # all that is called
            return 77

    script = Script()
    script.session = RcpGateway("gw", base_baud=115200, random=Unlucky())
    offer = script.offered()
    again = offered_again(script, RcpCode.NO_SESSION, offer.session)
    assert {offer.session, again.session} == {77, 78}


def test_a_device_that_says_busy_is_asked_sixteen_times_more() -> None:
    script = Script()
    offer = script.offered()
    for _ in range(15):
        script.silence_until(Offer)
    script.say(frames.Busy(offer.session, 10))
    again = script.silence_for(14.0)
    assert len(again) > 10
    assert {type(frame) for frame in again} == {Offer}


# Time


def test_a_slow_turnaround_delays_the_next_repetition() -> None:
    script = Script()
    script.session.identify(script.now, 5.0)
    (hello,) = script.sent()
    script.now += 0.24
    script.greet(hello)
    script.session.transfer(IMAGE, script.now)
    script.sent()
    due = script.session.next_deadline()
    assert due is not None
    assert due - script.now > 0.4


def test_a_device_cannot_make_the_gateway_ever_slower() -> None:
    script = Script()
    script.identified()
    for _ in range(30):
        script.session.confirm(IMAGE, script.now)
        (confirm,) = script.sent()
        assert isinstance(confirm, Confirm)
        due = script.session.next_deadline()
        assert due is not None
        assert due - script.now < 4.1
        script.now = due - 0.001
        script.say(frames.Confirmed(confirm.nonce))


def test_time_spent_busy_is_no_turnaround() -> None:
    request = Request(frames.Finish(1), 0.0, wire_s=0.1)
    request.mark_sent(0.0)
    assert request.turnaround_s(1.0, 0.1) == pytest.approx(0.8)
    request.hold(0.5)
    assert request.turnaround_s(1.0, 0.1) is None


# The speed


def in_baud(script: Script) -> None:
    script.identified().session.transfer(IMAGE, script.now)


def test_an_earlier_session_is_aborted_to_change_the_speed() -> None:
    script = Script(transfer_baud=FAST)
    in_baud(script)
    assert script.sent() == [frames.SetBaud(0, FAST)]
    assert script.say(frames.Error(0, RcpCode.BAD_STATE)) == [frames.Abort(0, 0)]
    assert script.say(frames.Aborted(0)) == [frames.SetBaud(0, FAST)]
    (offer,) = script.say(frames.Error(0, RcpCode.BAD_STATE))
    assert isinstance(offer, Offer)
    assert script.speeds() == []


def test_every_session_may_be_aborted_once() -> None:
    script = Script(transfer_baud=FAST)
    in_baud(script)
    script.say(frames.Error(0, RcpCode.BAD_STATE))
    script.say(frames.Aborted(0))
    (hello,) = script.say(frames.BaudOk(0, FAST, FAST))
    (offer,) = script.greet(hello)
    assert isinstance(offer, Offer)
    accepted(script, offer)
    assert script.greet(script.silence_until(Hello), boot_id=8) == [frames.SetBaud(0, FAST)]
    assert script.say(frames.Error(0, RcpCode.BAD_STATE)) == [frames.Abort(0, 0)]


def test_an_aborted_that_was_not_asked_for_means_nothing() -> None:
    script = Script(transfer_baud=FAST)
    in_baud(script)
    script.sent()
    assert script.say(frames.Aborted(0)) == []


def test_a_device_about_to_restart_is_asked_for_the_speed_when_it_has() -> None:
    script = Script(transfer_baud=FAST)
    in_baud(script)
    (hello,) = script.say(frames.Error(0, RcpCode.RESTARTING))
    assert script.greet(hello, boot_id=8) == [frames.SetBaud(0, FAST)]


def test_a_baud_ok_for_another_speed_is_stale() -> None:
    script = Script(transfer_baud=FAST)
    in_baud(script)
    script.sent()
    assert script.say(frames.BaudOk(0, 460800, 460800)) == []
    assert script.speeds() == []


def fast(script: Script) -> Offer:
    """Lead to OFFER at the raised speed."""
    in_baud(script)
    script.sent()
    (hello,) = script.say(frames.BaudOk(0, FAST, FAST))
    (offer,) = script.greet(hello)
    assert isinstance(offer, Offer)
    assert script.speeds() == [FAST]
    return offer


def test_staged_at_the_raised_speed_says_hello_every_second_and_leaves_it_for_identify() -> None:
    script = Script(transfer_baud=FAST)
    offer = fast(script)
    script.say(frames.Accept(offer.session, 0, 0, 4096))
    finish = script.receive_all(offer.session)
    script.say(frames.Finished(finish.session, IMAGE.sha256))
    assert script.outcome() == Staged(INFO.common)
    assert [type(frame) for frame in script.silence_for(5.5)] == [Hello] * 5
    script.session.identify(script.now, 5.0)
    script.sent()
    assert script.speeds() == [FAST, 115200]


@pytest.mark.parametrize("is_answered", [True, False])
def test_after_activate_the_line_is_at_base_before_the_outcome(is_answered: bool) -> None:
    script = Script(transfer_baud=FAST)
    offer = fast(script)
    script.say(frames.Accept(offer.session, 0, 0, 4096))
    finish = script.receive_all(offer.session)
    script.say(frames.Finished(finish.session, IMAGE.sha256))
    script.session.activate(600, script.now)
    if is_answered:
        script.say(frames.Activated(finish.session))
    else:
        assert len(script.silence_for(60.0)) == 16
    script.sent()
    assert script.events[-2:] == [LineSpeed(115200), Activated(acknowledged=is_answered)]


@pytest.mark.parametrize("restarts", [False, True])
def test_two_stalls_end_the_raised_speed_unless_the_device_has_restarted(restarts: bool) -> None:
    script = Script(transfer_baud=FAST)
    offer = fast(script)
    for boot_id in (8, 9):
        accepted(script, offer)
        hello = script.silence_until(Hello)
        assert script.speeds()[-1] == 115200
        (request,) = script.greet(hello, boot_id=boot_id if restarts else 7)
        if boot_id == 8:
            assert request == frames.SetBaud(0, FAST)
            (first,) = script.say(frames.BaudOk(0, FAST, FAST))
            (again,) = script.greet(first)
            assert isinstance(again, Offer)
            offer = again
    assert isinstance(request, frames.SetBaud if restarts else Offer)
