"""The rules that a model showed to matter, each on the gateway's side: the session, rules 6 to 12."""

import dataclasses
import itertools
import random
import zlib

import pytest
from lab.rcp.script import IMAGE, INFO, Script, is_whole, payloads, session_of

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.codes import RcpCode
from gatewayd.protocol.rcp.tlv_frames import Confirm, Confirmed, Hello, Info, Offer
from gatewayd.protocol.session import (
    Activated,
    Deferred,
    Failed,
    Identified,
    Staged,
    TransferStarted,
)
from gatewayd.protocol.session import Confirmed as ConfirmedOutcome

SIZE = len(IMAGE.content)
WINDOW = [(0, 1024), (1024, 1024), (2048, 1024), (3072, 1024)]


# 6. The prefix


def test_rule_06_a_prefix_that_is_ours_is_gone_on_from() -> None:
    script = Script()
    sent = script.sending(offset=8192, crc=zlib.crc32(IMAGE.content[:8192]))
    assert TransferStarted(8192, SIZE) in script.events
    assert payloads(sent)[0] == (8192, 1024)
    assert script.session.traffic.resumes == 1


@pytest.mark.parametrize(("offset", "crc"), [(8192, 1), (SIZE + 1, 0), (0, 1)])
def test_rule_06_a_prefix_that_is_not_ours_begins_again_from_zero_once(offset: int, crc: int) -> None:
    script = Script()
    first = script.offered()
    (again,) = script.say(frames.Accept(first.session, offset, crc, max(offset, 4096)))
    assert isinstance(again, Offer)
    assert (first.from_zero, again.from_zero) == (False, True)
    assert again.session != first.session
    assert script.say(frames.Accept(again.session, offset, crc, max(offset, 4096))) == []
    assert script.failed_code() == "prefix_mismatch"


# 8. FINISH


def test_rule_08_the_digest_is_compared_once_more() -> None:
    script = Script()
    finish = script.finishing()
    (again,) = script.say(frames.Finished(finish.session, bytes(32)))
    assert isinstance(again, Offer)
    assert again.from_zero
    assert not any(isinstance(event, Staged) for event in script.events)
    script.say(frames.Accept(again.session, 0, 0, 4096))
    script.receive_all(again.session)
    script.say(frames.Finished(again.session, bytes(32)))
    assert script.failed_code() == "digest_mismatch"


@pytest.mark.parametrize("code", [RcpCode.DIGEST_MISMATCH, RcpCode.FLASH_READ, 0x02FF])
def test_rule_08_a_slot_that_reads_back_wrong_is_filled_again_once(code: int) -> None:
    script = Script()
    finish = script.finishing()
    (again,) = script.say(frames.Error(finish.session, code))
    assert isinstance(again, Offer)
    assert again.from_zero
    script.say(frames.Accept(again.session, 0, 0, 4096))
    script.receive_all(again.session)
    script.say(frames.Error(again.session, code))
    assert script.failed_code() in {"digest_mismatch", "flash_read", "code_02ff"}


def test_rule_08_a_device_that_forgot_the_session_while_hashing_is_offered_again() -> None:
    script = Script()
    finish = script.finishing()
    script.say(frames.Error(finish.session, RcpCode.NO_SESSION))
    (offer,) = script.greet(boot_id=8)
    assert isinstance(offer, Offer)
    assert not offer.from_zero
    (again,) = script.say(frames.Accept(offer.session, SIZE, zlib.crc32(IMAGE.content), SIZE))
    assert again == frames.Finish(offer.session)
    script.say(frames.Finished(offer.session, IMAGE.sha256))
    staged = script.outcome()
    assert isinstance(staged, Staged)
    assert staged.info.boot_id == 8  # what ACTIVATE has to carry now


# 9. ACTIVATE


def test_rule_09_activate_carries_the_boot_id_that_the_device_has_now() -> None:
    script = Script()
    session = session_of(script.sending())
    script.say(frames.Error(session, RcpCode.NO_SESSION))
    (offer,) = script.greet(boot_id=99)
    assert isinstance(offer, Offer)
    script.say(frames.Accept(offer.session, 0, 0, 4096))
    script.receive_all(offer.session)
    script.say(frames.Finished(offer.session, IMAGE.sha256))
    script.session.activate(600, script.now)
    assert script.sent() == [frames.Activate(offer.session, IMAGE.sha256, 99, 600)]


@pytest.mark.parametrize(
    ("answer", "acknowledged"),
    [(None, True), (RcpCode.RESTARTING, True), (RcpCode.OTHER_BOOT, False), (RcpCode.NO_SESSION, False)],
)
def test_rule_09_what_became_of_activate_is_for_hello_to_tell(
    answer: RcpCode | None, acknowledged: bool
) -> None:
    script = Script()
    activate = script.activating()
    session = activate.session
    script.say(frames.Activated(session) if answer is None else frames.Error(session, answer))
    assert script.outcome() == Activated(acknowledged)


def test_rule_09_a_silent_device_may_have_restarted() -> None:
    script = Script()
    activate = script.activating()
    again = script.silence_for(30.0)
    assert len(again) in {15, 16}
    assert set(again) == {activate}
    assert script.outcome() == Activated(acknowledged=False)


@pytest.mark.parametrize("second_try", [False, True])
def test_rule_09_a_second_try_is_asked_for_only_when_told_to(second_try: bool) -> None:
    offer = Script().offered(dataclasses.replace(IMAGE, second_try=second_try))
    assert offer.second_try is second_try


def test_rule_09_nothing_is_activated_that_is_not_staged() -> None:
    script = Script()
    for way_in in (script.identified, script.offered):
        way_in()
        with pytest.raises(RuntimeError):
            script.session.activate(600, script.now)
        assert not any(isinstance(frame, frames.Activate) for frame in script.sent())


# 10. CONFIRM


@pytest.mark.parametrize("sha256", [IMAGE.sha256, None])
def test_rule_10_confirm_names_the_image_as_the_device_knows_it(sha256: bytes | None) -> None:
    script = Script(info=dataclasses.replace(INFO, running_sha256=sha256)).identified()
    script.session.confirm(IMAGE, script.now)
    (confirm,) = script.sent()
    assert isinstance(confirm, Confirm)
    assert (confirm.sha256, confirm.version) == (sha256, None if sha256 else IMAGE.version)
    script.say(Confirmed(confirm.nonce ^ 1))
    assert script.session.next_deadline() is not None  # that was not for us
    script.say(Confirmed(confirm.nonce))
    assert script.outcome() == ConfirmedOutcome()


def test_rule_10_an_image_that_does_not_run_is_not_confirmed() -> None:
    script = Script().identified()
    script.session.confirm(IMAGE, script.now)
    script.sent()
    script.say(frames.Error(0, RcpCode.NOT_RUNNING))
    assert script.failed_code() == "not_running"


# 11. Identity first


def test_rule_11_nothing_is_offered_to_who_is_not_known() -> None:
    script = Script()
    with pytest.raises(RuntimeError):
        script.session.transfer(IMAGE, script.now)
    with pytest.raises(RuntimeError):
        script.session.confirm(IMAGE, script.now)
    assert script.sent() == []
    script.identified()  # and nothing was spoilt


def test_rule_11_an_answer_to_another_hello_is_stale() -> None:
    script = Script()
    script.session.identify(script.now, 5.0)
    (hello,) = script.sent()
    assert isinstance(hello, Hello)
    script.say(Info(hello.nonce ^ 1, INFO))
    assert script.outcome() is None
    script.say(Info(hello.nonce, INFO))
    assert script.outcome() == Identified(INFO.common)


def test_rule_11_hello_is_repeated_with_the_same_nonce_four_times_a_second() -> None:
    script = Script()
    script.session.identify(script.now, 5.0)
    hellos = script.sent() + script.silence_for(6.0)
    assert len(set(hellos)) == 1
    assert 17 <= len(hellos) <= 21
    assert script.failed_code() == "no_answer"


def test_rule_11_a_repeated_offer_is_the_same_and_a_new_one_has_another_session() -> None:
    script = Script()
    offer = script.offered()
    assert set(script.silence_for(5.0)) == {offer}
    script.say(frames.Error(offer.session, RcpCode.NO_SESSION))
    (second,) = script.greet()
    assert isinstance(second, Offer)
    assert second.session not in {0, offer.session}


def test_rule_11_no_session_number_twice_in_a_row_whatever_chance_says() -> None:
    class Stuck(random.Random):
        def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:  # noqa: ARG002 - its shape
            return start

    script = Script(rng=Stuck())
    numbers = [script.offered().session]
    for _ in range(5):
        script.say(frames.Error(numbers[-1], RcpCode.NO_SESSION))
        (offer,) = script.greet()
        assert isinstance(offer, Offer)
        numbers.append(offer.session)
    assert all(before != after for before, after in itertools.pairwise(numbers))


def test_rule_11_frames_of_another_session_are_ignored() -> None:
    script = Script()
    session = session_of(script.sending())
    other = session % 255 + 1
    assert script.say(frames.Nak(other, 0, 0, 4096), frames.Error(other, RcpCode.NO_SESSION)) == []
    assert script.say(frames.Ack(other, SIZE, 0, SIZE)) == []
    assert is_whole(payloads(script.say(frames.Nak(session, 0, 0, 4096))), 0, 4096)


def test_rule_11_not_now_is_passed_on() -> None:
    script = Script()
    offer = script.offered()
    script.say(frames.NotNow(offer.session, 10, 1))
    assert script.outcome() == Deferred(10, 1)


@pytest.mark.parametrize("changed", ["app_id", "hardware_id", "device_id"])
def test_rule_11_another_device_on_the_line_gets_nothing(changed: str) -> None:
    script = Script()
    session = session_of(script.sending())
    script.say(frames.Error(session, RcpCode.NO_SESSION))
    assert script.greet(None, **{changed: "another"}) == []
    assert script.failed_code() == "device_changed"


@pytest.mark.parametrize(
    "code",
    [
        RcpCode.NO_SESSION,
        RcpCode.BAD_STATE,
        RcpCode.OTHER_BOOT,
        RcpCode.RESTARTING,
        RcpCode.NOT_STAGED,
        0x01FF,
    ],
)
def test_rule_11_who_never_has_a_session_is_given_up_in_the_end(code: int) -> None:
    script = Script()
    session = session_of(script.sending())
    offers = 1
    for _ in range(20):
        script.say(frames.Error(session, code))
        if isinstance(script.outcome(), Failed):
            break
        (offer,) = script.greet(script.silence_until(Hello))
        assert isinstance(offer, Offer)
        session, offers = offer.session, offers + 1
    assert offers == 8
    assert script.failed_code() == ("code_01ff" if code == 0x01FF else RcpCode(code).name.lower())


@pytest.mark.parametrize("code", [code for code in RcpCode if code >> 8 == 3] + [0x0399, 0x0700])
def test_rule_11_a_refusal_for_good_is_passed_on(code: int) -> None:
    script = Script()
    offer = script.offered()
    script.say(frames.Refuse(offer.session, code))
    names = {0x0399: "code_0399", 0x0700: "code_0700"}
    assert script.failed_code() == (names.get(code) or RcpCode(code).name.lower())


# 12. SET_BAUD


def asked_for_speed(script: Script) -> None:
    script.identified().session.transfer(IMAGE, script.now)
    assert script.sent() == [frames.SetBaud(0, 921600)]


def test_rule_12_speed_changes_when_the_device_says_so_and_hello_comes_first() -> None:
    script = Script(transfer_baud=921600)
    asked_for_speed(script)
    assert script.speeds() == []
    (hello,) = script.say(frames.BaudOk(0, 921600, 923000))
    assert script.speeds() == [921600]
    assert isinstance(hello, Hello)
    (offer,) = script.greet(hello)
    assert isinstance(offer, Offer)


def test_rule_12_a_speed_that_is_too_far_off_is_not_used() -> None:
    script = Script(transfer_baud=921600)
    asked_for_speed(script)
    script.say(frames.BaudOk(0, 921600, 940000))
    (offer,) = script.greet(script.silence_until(Hello) if not script.sent() else None)
    assert isinstance(offer, Offer)
    assert script.speeds() == []


def test_rule_12_silence_at_the_new_speed_leads_back_to_base_and_hello_outlasts_the_device() -> None:
    script = Script(transfer_baud=921600)
    asked_for_speed(script)
    switched = script.now
    script.say(frames.BaudOk(0, 921600, 921600))
    while script.speeds() == [921600]:
        script.silence()
    assert script.speeds() == [921600, 115200]
    assert script.now - switched == pytest.approx(1.0, abs=0.05)
    script.silence_until(Hello)
    assert script.now - switched >= 1.5
    hellos = script.silence_for(3.5)
    assert len(hellos) >= 10  # for longer than the 3 s after which a device is surely back


def test_rule_12_two_failures_and_it_stays_at_base_for_this_job() -> None:
    script = Script(transfer_baud=921600)
    asked_for_speed(script)
    for _ in range(2):
        script.say(frames.BaudOk(0, 921600, 921600))
        while script.speeds()[-1] == 921600:
            script.silence()
        (said,) = script.greet(script.silence_until(Hello))
    assert isinstance(said, Offer)
    assert script.speeds() == [921600, 115200] * 2


def test_rule_12_a_device_that_cannot_is_offered_at_base() -> None:
    script = Script(transfer_baud=921600)
    asked_for_speed(script)
    (offer,) = script.say(frames.Error(0, RcpCode.BAUD))
    assert isinstance(offer, Offer)


def test_rule_12_whatever_ends_a_transfer_leaves_the_line_at_base() -> None:
    script = Script(transfer_baud=921600)
    asked_for_speed(script)
    (offer,) = script.greet(script.say(frames.BaudOk(0, 921600, 921600))[0])
    assert isinstance(offer, Offer)
    script.say(frames.Refuse(offer.session, RcpCode.TOO_LARGE))
    assert script.failed_code() == "too_large"
    assert script.speeds() == [921600, 115200]
