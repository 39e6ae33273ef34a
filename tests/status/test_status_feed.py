"""What a person sees of a device: what is true now, not what was once."""

from datetime import UTC, datetime
from typing import Any

import pytest
from lab.jobs import World, a_device, a_job, an_info, digest, genuine

from gatewayd.delivery.progress import TransferProgress
from gatewayd.errors import LinkError
from gatewayd.jobs.model import Job, Verdict
from gatewayd.jobs.transitions import JobState
from gatewayd.status.board import DeviceStatus, StatusBoard
from gatewayd.status.feed import StatusFeed

DEVICE = a_device()
RUNS_2: dict[str, Any] = {"version": "4.3.2", "running_sha256": bytes.fromhex(digest("image 2 None"))}


class Screen:
    def __init__(self, world: World) -> None:
        self.world = world
        self.board = StatusBoard(lambda: datetime(2026, 11, 23, tzinfo=UTC))
        self.feed = StatusFeed(self.board)

    def show(self) -> DeviceStatus:
        self.feed.planned(self.world.plan(), self.world.known, self.world.devices)
        return self.status()

    def status(self) -> DeviceStatus:
        status = self.board.get("pump-1")
        assert status
        return status


def screen(**job: Any) -> Screen:
    world = World(DEVICE).publish(genuine(2))
    return Screen(world.job(**job) if job else world)


@pytest.mark.parametrize(
    ("job", "info", "state", "code"),
    [
        ({"state": JobState.OFFERED}, {}, "offered", None),
        ({"state": JobState.QUEUED, "code": "no_answer"}, {}, "queued", "no_answer"),
        ({"state": JobState.ACTIVATING}, {}, "activating", None),
        ({"state": JobState.SUCCEEDED}, RUNS_2, "succeeded", None),
        ({"state": JobState.SUCCEEDED, "code": "version_differs"}, RUNS_2, "succeeded", "version_differs"),
        ({"state": JobState.FAILED, "code": "reverted"}, {}, "failed", "reverted"),
        # What a job came to is not shown when it is not so any more.
        ({"state": JobState.FAILED, "code": "reverted"}, RUNS_2, "idle", "up_to_date"),
        ({"state": JobState.CANCELLED, "code": "cancelled"}, {}, "idle", "cancelled"),
        ({"state": JobState.CANCELLED, "code": "not_newer"}, {"version": "4.3.9"}, "idle", "not_newer"),
    ],
)
def test_what_a_job_came_to(job: dict[str, Any], info: dict[str, Any], state: str, code: str | None) -> None:
    one = screen(**job)
    one.world.says(**info, contact_seq=5)
    status = one.show()
    assert (status.state, status.code) == (state, code)


def test_nothing_is_known_yet() -> None:
    status = Screen(World(DEVICE)).show()
    assert (status.state, status.code, status.installed_version) == ("unknown", "no_release", "4.3.1")


def test_a_device_that_was_heard_of_and_has_nothing_to_do() -> None:
    status = Screen(World(DEVICE).says(version="4.3.7")).show()
    assert (status.state, status.installed_version, status.latest_version) == ("idle", "4.3.7", "4.3.7")


def test_a_refusal_is_shown_with_its_reason_and_version() -> None:
    status = Screen(World(DEVICE).publish(genuine(2, size=1 << 21)).says()).show()
    assert (status.state, status.code, status.latest_version) == ("refused", "too_large", "4.3.2")
    assert "2097152 bytes" in (status.reason or "")


def test_a_refusal_of_another_release_is_not_taken_for_the_last_job() -> None:
    one = screen(state=JobState.FAILED, code="too_large", reason="of the first")
    one.world.publish(genuine(3, size=1 << 21)).says(contact_seq=5)
    status = one.show()
    assert (status.state, status.code, status.job) == ("refused", "too_large", None)


def test_a_withdrawn_release_leaves_nothing_on_the_screen() -> None:
    one = screen(state=JobState.SUCCEEDED)
    one.world.says(**RUNS_2)
    assert one.show().state == "succeeded"
    one.world.releases.clear()
    status = one.show()
    assert (status.state, status.code, status.job, status.progress) == ("idle", "no_release", None, None)


def test_an_unreachable_device_is_shown_until_it_answers() -> None:
    one = Screen(World(DEVICE))
    one.feed.unreachable(DEVICE, LinkError("nothing within 5 s", code="no_answer"))
    status = one.show()
    assert (status.state, status.code) == ("unreachable", "no_answer")
    assert status.reason == "/nowhere/pump-1: nothing within 5 s"
    one.feed.device_seen(DEVICE, an_info())
    one.world.says()
    assert one.show().state == "idle"


def test_a_job_that_waits_says_more_than_an_unreachable_device() -> None:
    one = screen(state=JobState.QUEUED, code="no_answer")
    one.feed.unreachable(DEVICE, LinkError("silence", code="no_answer"))
    assert one.show().state == "queued"


def moved(state: JobState, **values: Any) -> Job:
    return a_job(state=state, image_size=1000, **values)


def test_progress_while_it_runs_is_not_overwritten_by_the_plan() -> None:
    one = screen(state=JobState.TRANSFERRING)
    one.feed.job_moved(moved(JobState.TRANSFERRING))
    assert one.status().progress == 0
    one.feed.progressed(moved(JobState.TRANSFERRING), TransferProgress(505, 11_520, 0))
    status = one.show()
    assert (status.state, status.progress, status.bytes_per_s) == ("transferring", 50, 11_520)


@pytest.mark.parametrize(
    ("state", "progress"),
    [
        ("queued", 40),
        ("transferring", 40),
        ("staged", 100),
        ("activating", 100),
        ("succeeded", 100),
        ("failed", None),
    ],
)
def test_progress_by_state(state: str, progress: int | None) -> None:
    one = Screen(World(DEVICE))
    one.feed.job_moved(moved(JobState(state), durable=400))
    assert (one.status().state, one.status().progress, one.status().bytes_per_s) == (state, progress, None)


def test_a_device_that_is_configured_no_more_disappears() -> None:
    one = Screen(World(DEVICE, a_device("pump-2")))
    one.show()
    one.world.devices.pop()
    one.show()
    assert [status.name for status in one.board.all()] == ["pump-1"]


def test_a_code_that_verification_gave_is_shown() -> None:
    verdict = Verdict(code="bad_signature", reason="does not fit")
    status = Screen(World(a_device(payload="advanced")).publish(verdict)).show()
    assert (status.state, status.code, status.reason) == ("refused", "bad_signature", "does not fit")
