"""What each class of codes makes the rest of the program do, asked of every code."""

from datetime import UTC, datetime
from typing import Any

import pytest
from lab.jobs import World, a_device, a_job, genuine

from gatewayd.codes import Again, AttemptEffect, Code, Contact, Fault, meaning
from gatewayd.delivery.retry import after_failure
from gatewayd.errors import DeviceError, LinkError, LinkLost
from gatewayd.jobs.transitions import JobState
from gatewayd.status.board import StatusBoard
from gatewayd.status.feed import StatusFeed

S = JobState
# Pinned apart from the table: a row that is changed by mistake shows here.
NEVER_AGAIN = {"reverted", "version_mismatch", "already_tried"}
NOT_REACHED = {
    *("no_answer", "only_text", "garbled", "incomplete", "late", "echo", "port_contested", "wake_failed"),
    *("link_missing", "link_lost", "link_busy", "port_shared", "too_many_files", "link_denied", "link_error"),
    *("not_heard", "connect_failed", "pairing_failed", "bond_lost", "no_service"),
    *("adapter_missing", "adapter_blocked", "adapter_busy", "adapter_silent", "adapter_failed"),
    *("bluetooth_missing", "too_many_files", "device_forgotten", "no_resources", "characteristic_held"),
}
STRANGERS = {"wrong_app", "wrong_hardware", "wrong_device", "device_changed"}
UNSTEADY = {"keeps_restarting", "keeps_vanishing"}
NOT_STARTED = {"image_rejected"}

every_code = pytest.mark.parametrize("code", list(Code))


@every_code
def test_a_failed_job_is_taken_up_again_when_there_is_a_reason(code: Code) -> None:
    expected = {  # heard from again; restarted; another board
        Again.AFTER_CONTACT: (True, True, True),
        Again.AFTER_RESTART: (False, True, True),
        Again.BY_PERSON: (False, False, True),
        Again.NEVER: (False, False, True),
    }[code.meaning.again]
    news: list[dict[str, Any]] = [{}, {"boot_id": 2}, {"device_id": "B"}]
    for says, again in zip(news, expected, strict=True):
        world = World(a_device()).publish(genuine(2))
        failed: dict[str, Any] = {"boot_id": 1, "device_id": "A", "updated_seq": 10}
        world.job(state=S.FAILED, code=str(code), reason="so it was", **failed)
        assert not world.plan().job_changes, "nothing was heard"
        assert bool(world.says(**says, contact_seq=11).plan().job_changes) is again, says


@every_code
def test_a_failed_attempt_leads_where_the_table_says(code: Code) -> None:
    def state(now: JobState, *, failures: int = 0, grace: bool = False) -> tuple[JobState, int]:
        job = a_job(state=now, failures=failures)
        error = DeviceError("it says no", code=code)
        retry = after_failure(job, error, advanced=False, attempts=3, grace=grace, chance=0.5)
        return retry.state, retry.failures

    row = code.meaning
    match row.attempt:
        case AttemptEffect.MOOT:
            assert state(S.TRANSFERRING) == (S.CANCELLED, 0)
            assert state(S.ACTIVATING) == (S.FAILED, 1)
        case AttemptEffect.FINAL:
            assert state(S.TRANSFERRING) == state(S.ACTIVATING) == (S.FAILED, 1)
        case AttemptEffect.WAITS if code == Code.TRIAL_OVERDUE:
            assert state(S.TRANSFERRING, failures=2) == (S.QUEUED, 2)
            assert state(S.ACTIVATING, failures=2) == (S.FAILED, 3), "a newer release could not supersede it"
        case AttemptEffect.WAITS:
            assert state(S.TRANSFERRING, failures=2) == (S.QUEUED, 2)
            assert state(S.ACTIVATING, failures=2) == (S.ACTIVATING, 2)
        case AttemptEffect.COUNTS:
            assert state(S.TRANSFERRING) == (S.QUEUED, 1)
            assert state(S.TRANSFERRING, failures=2) == (S.FAILED, 3)
            # A device of which nothing was heard, but of a stranger perhaps, may be running the new image.
            unheard = row.contact is not Contact.MADE
            assert state(S.ACTIVATING) == (S.ACTIVATING if unheard else S.QUEUED, 1)
            excused = (S.ACTIVATING, 2) if row.is_silence else (S.FAILED, 3)
            assert state(S.ACTIVATING, failures=2, grace=True) == excused


@every_code
def test_the_link_shows_what_is_about_the_link(code: Code) -> None:
    feed = StatusFeed(StatusBoard(lambda: datetime(2026, 11, 23, tzinfo=UTC)))
    world = World(device := a_device()).says()
    info = world.records["pump-1"].info
    assert info is not None
    feed.device_seen(device, info)
    feed.job_moved(a_job(state=S.QUEUED, code=str(code), reason="so it was"))
    health = feed.link_health("pump-1")
    assert health.code == (code if code.meaning.is_about_link else "ok")
    assert health.is_ok is not code.meaning.is_about_link
    feed.device_seen(device, info)
    assert feed.link_health("pump-1").is_ok


def test_the_classes_are_those_that_were_meant() -> None:
    def where(**wanted: object) -> set[str]:
        return {
            str(code)
            for code in Code
            if all(getattr(code.meaning, name) is value for name, value in wanted.items())
        }

    assert where(again=Again.NEVER) == NEVER_AGAIN
    assert where(again=Again.AFTER_CONTACT) == NOT_REACHED | STRANGERS
    assert where(again=Again.BY_PERSON) == UNSTEADY | NOT_STARTED
    assert where(contact=Contact.NONE) == NOT_REACHED | {"keeps_vanishing"}
    assert where(contact=Contact.STRANGER) == STRANGERS
    assert where(is_disk=True) == {"disk_full", "disk_read_only", "disk_failing"}
    assert where(attempt=AttemptEffect.MOOT) == {"not_newer", "incompatible"}
    assert where(is_outcome=True) == NEVER_AGAIN | NOT_STARTED | {"up_to_date"}
    assert where(is_well=True) == {"update", "up_to_date"}
    assert where(is_silence=True) < where(
        contact=Contact.NONE, fault=Fault.LINE, attempt=AttemptEffect.COUNTS
    )
    assert where(fault=Fault.PUBLISHER) < where(attempt=AttemptEffect.FINAL)


def test_the_errors_of_a_link_say_that_nothing_was_heard() -> None:
    assert meaning(LinkError.default_code).contact is meaning(LinkLost.default_code).contact is Contact.NONE
