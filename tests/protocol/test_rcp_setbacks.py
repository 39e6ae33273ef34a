"""The session's ways back after a setback, and the speed of the line."""

import itertools

import pytest
from rcp_script import IMAGE, INFO, Script

from gatewayd.errors import LinkError
from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.codes import Code
from gatewayd.protocol.rcp.tagged import Hello, Offer
from gatewayd.protocol.session import Activated, Failed, LineSpeed, Staged

FAST = 921600


def test_hello_after_a_setback_waits_longer_each_time() -> None:
    script, waits = Script(), []
    offer = script.offered()
    for _ in range(4):
        said_at = script.now
        answers = script.say(frames.Error(offer.session, Code.RESTARTING))
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
    script.say(frames.Error(offer.session, Code.NO_SESSION))
    while not isinstance(outcome := script.outcome(), Failed):
        script.silence()
    assert isinstance(outcome.error, LinkError)
    assert outcome.error.code == "no_answer"
    assert script.now - began == pytest.approx(5.0 + INFO.boot_time_s)


# The speed


def in_baud(script: Script) -> None:
    script.identified().session.transfer(IMAGE, script.now)


def test_an_earlier_session_is_aborted_to_change_the_speed() -> None:
    script = Script(transfer_baud=FAST)
    in_baud(script)
    assert script.sent() == [frames.SetBaud(0, FAST)]
    assert script.say(frames.Error(0, Code.BAD_STATE)) == [frames.Abort(0, 0)]
    assert script.say(frames.Aborted(0)) == [frames.SetBaud(0, FAST)]
    (offer,) = script.say(frames.Error(0, Code.BAD_STATE))
    assert isinstance(offer, Offer)
    assert script.speeds() == []


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
    assert script.outcome() == Staged(INFO)
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


def test_two_stalls_of_a_device_that_has_not_restarted_end_the_raised_speed() -> None:
    script = Script(transfer_baud=FAST)
    offer = fast(script)
    for stall in range(2):
        script.say(frames.Accept(offer.session, 0, 0, 4096))
        hello = script.silence_until(Hello)
        assert script.speeds()[-1] == 115200
        (request,) = script.greet(hello)
        if stall == 0:
            assert request == frames.SetBaud(0, FAST)
            (first,) = script.say(frames.BaudOk(0, FAST, FAST))
            (again,) = script.greet(first)
            assert isinstance(again, Offer)
            offer = again
    assert isinstance(request, Offer)
