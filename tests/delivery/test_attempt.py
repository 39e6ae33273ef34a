"""One attempt with a device in memory: what is stored when, and what becomes of each mishap."""

import hashlib
import sqlite3
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lab.board import Bench, Board, BoardLink, BoardSession, a_bench
from lab.jobs import IMAGE, a_device, an_rcp_info, timeless

from gatewayd.delivery.attempt import STEPS_PER_ATTEMPT, Attempt
from gatewayd.delivery.deferral import LONGEST_DEFERRAL_S, SHORTEST_DEFERRAL_S, Deferral
from gatewayd.delivery.retry import Retry
from gatewayd.errors import DeviceError, FirmwareError, GatewaydError, LinkError
from gatewayd.jobs.model import BoardKey, Job, SaveMark
from gatewayd.jobs.transitions import JobState
from gatewayd.ota.rules import RollbackMark
from gatewayd.protocol.session import Deferred, Failed, ImageState
from gatewayd.store.database import Database

NEW = IMAGE
X = hashlib.sha256(NEW).digest()
STATES = ["transferring", "staged", "activating", "succeeded"]


@asynccontextmanager
async def bench_of(folder: Path, info: dict[str, Any] | None = None, **device: Any) -> AsyncIterator[Bench]:
    board = Board(an_rcp_info(**info or {}))
    async with a_bench(folder, {"pump-1": board}, a_device(**device)) as bench:
        yield bench


def attempt(bench: Bench, job: Job | None = None) -> Attempt:
    return Attempt(bench.deps, bench.settings, bench.device, job)


async def failure(bench: Bench, job: Job) -> GatewaydError:
    with pytest.raises(GatewaydError) as caught:
        await attempt(bench, job).deliver()
    assert not bench.board.is_open
    return caught.value


@timeless
async def test_a_whole_update(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        job = await attempt(bench, await bench.a_job()).deliver()
        assert job == await bench.job()
        assert bench.witness.states == STATES
        assert bench.witness.received[-1] == len(NEW)
        assert bench.board.started == [X]
        assert bench.board.info.image_state is ImageState.CONFIRMED
        assert not bench.board.is_open
        assert (job.code, job.attempt, job.resumes, job.durable) == ("", 1, 0, len(NEW))
        record = (await bench.store.run(Database.devices))["pump-1"]
        assert record.info == bench.board.info.common


@timeless
async def test_activating_is_stored_before_activate_is_called(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        stored = []

        def look() -> None:
            connection = sqlite3.connect(tmp_path / "gatewayd.db")
            stored.append(connection.execute("SELECT state, boot_id, image_sha256 FROM jobs").fetchone())
            connection.close()

        bench.board.on_activate = look
        await attempt(bench, await bench.a_job()).deliver()
        assert stored == [("activating", 1, X.hex())]


@timeless
async def test_success_sets_the_mark(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        job = await bench.a_job(timestamp_ms=2**64 - 1, container_sha256=bytes(32).hex())
        await attempt(bench, job).deliver()
        assert (await bench.store.run(Database.devices))["pump-1"].mark == RollbackMark(2**64 - 1, bytes(32))


@timeless
async def test_the_mark_of_the_board_that_is_there_counts_not_that_of_the_one_before(tmp_path: Path) -> None:
    """The planner made the job for another board; this one has run something newer."""
    async with bench_of(tmp_path, {"device_id": "spare"}) as bench:
        key = BoardKey("pump", "id", "spare")
        command = SaveMark("elsewhere", (key,), RollbackMark(2_000, bytes(32)), "it ran there")
        await bench.store.run(lambda db: db.save_mark(command))
        job = await bench.a_job(timestamp_ms=1_000, container_sha256=bytes(32).hex())
        assert (await failure(bench, job)).code == "rollback"
        assert bench.board.heard == ["hello"]
        assert (await bench.store.run(Database.marks))[key].timestamp_ms == 2_000


@timeless
async def test_success_raises_the_mark_of_the_board_and_a_downgrade_lowers_it(tmp_path: Path) -> None:
    key = BoardKey("pump", "id", "A")
    for allowed, stamp in ((False, 2_000), (True, 1_000)):
        async with bench_of(tmp_path, {"version": "4.3.1"}, allow_downgrade=allowed) as bench:
            job = await bench.a_job(timestamp_ms=stamp, container_sha256=bytes(32).hex())
            await attempt(bench, job).deliver()
            assert (await bench.store.run(Database.marks))[key] == RollbackMark(stamp, bytes(32))


@timeless
async def test_a_device_that_runs_something_newer_than_believed_keeps_it(tmp_path: Path) -> None:
    async with bench_of(tmp_path, {"version": "4.3.9"}) as bench:
        error = await failure(bench, await bench.a_job())
        assert isinstance(error, FirmwareError)
        assert error.code == "not_newer"
        assert bench.board.heard == ["hello"]
        assert (await bench.job()).state is JobState.QUEUED


@timeless
async def test_a_device_of_another_line_keeps_what_it_has(tmp_path: Path) -> None:
    async with bench_of(tmp_path, {"version": "5.0.0"}) as bench:
        assert (await failure(bench, await bench.a_job())).code == "incompatible"
        assert bench.board.heard == ["hello"]


@timeless
async def test_an_older_image_goes_where_that_is_allowed(tmp_path: Path) -> None:
    async with bench_of(tmp_path, {"version": "4.3.9"}, allow_downgrade=True) as bench:
        job = await attempt(bench, await bench.a_job()).deliver()
        assert (job.state, job.from_version) == (JobState.SUCCEEDED, "4.3.9")


@timeless
async def test_a_lost_activate_is_noticed_and_the_image_activated_once(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        bench.board.ignored_activates = 100
        job = await bench.a_job()
        assert (await failure(bench, job)).code == "activate_ignored"
        job = await bench.job()
        assert job.state is JobState.ACTIVATING
        bench.board.ignored_activates = 0
        assert (await attempt(bench, job).deliver()).state is JobState.SUCCEEDED
        assert bench.board.started == [X]
        assert bench.board.heard.count("data") == 3  # it still had the image


@timeless
async def test_a_power_cut_instead_of_activate_leads_to_activate_again(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        bench.board.restarts_instead_of_activate = 1
        job = await attempt(bench, await bench.a_job()).deliver()
        assert job.state is JobState.SUCCEEDED
        assert bench.board.started == [X]
        assert bench.witness.states == [*STATES[:3], *STATES]


@timeless
async def test_what_the_bootloader_gave_up_is_reverted_for_good(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        bench.board.gives_up = True
        assert (await failure(bench, await bench.a_job())).code == "reverted"
        assert bench.board.started == [X]


@timeless
async def test_a_device_that_says_on_trial_after_its_bootloader_went_back_is_not_waited_for(
    tmp_path: Path,
) -> None:
    async with bench_of(tmp_path, {"running_sha256": None}) as bench:
        bench.board.gives_up = True
        bench.board.says_after_giving_up = ImageState.ON_TRIAL
        error = await failure(bench, await bench.a_job())
        assert error.code == "reverted"
        assert "still says that it is on trial" in (error.hint or "")
        assert bench.board.started == [X]


@timeless
async def test_one_cut_between_record_and_flag_gets_a_second_try(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        bench.board.restarts_before_the_flag = 1
        job = await attempt(bench, await bench.a_job()).deliver()
        assert (job.state, job.second_try) == (JobState.SUCCEEDED, True)
        assert bench.board.started == [X]


@timeless
async def test_two_cuts_between_record_and_flag_get_no_third(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        bench.board.restarts_before_the_flag = 2
        assert (await failure(bench, await bench.a_job())).code == "reverted"
        assert bench.board.heard.count("activate") == 2


@timeless
async def test_the_second_try_also_goes_to_a_device_whose_version_was_only_believed(tmp_path: Path) -> None:
    async with bench_of(tmp_path, {"version": "4.3.0", "running_sha256": None}) as bench:
        bench.board.restarts_before_the_flag = 1
        bench.board.forgets_sha256 = True
        assert (await attempt(bench, await bench.a_job()).deliver()).state is JobState.SUCCEEDED


@timeless
async def test_the_right_bytes_under_another_name_succeed_with_a_warning(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        bench.board.calls_itself = "4.3.7"
        job = await attempt(bench, await bench.a_job()).deliver()
        assert (job.state, job.code) == (JobState.SUCCEEDED, "version_differs")
        assert "4.3.7" in job.reason


@timeless
async def test_a_device_that_does_not_name_its_version_is_no_cause_for_a_warning(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        bench.board.calls_itself = None
        assert (await attempt(bench, await bench.a_job()).deliver()).code == ""


@timeless
async def test_another_version_and_no_sha256_is_a_mismatch(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        bench.board.calls_itself, bench.board.forgets_sha256 = "4.3.7", True
        error = await failure(bench, await bench.a_job())
        assert error.code == "version_mismatch"
        assert "4.3.7" in str(error)


@timeless
async def test_a_device_without_trial_boot_needs_leave(tmp_path: Path) -> None:
    async with bench_of(tmp_path / "a", {"can_revert": False}) as bench:
        assert (await failure(bench, await bench.a_job())).code == "no_trial_boot"
        assert bench.board.heard == ["hello"]
    async with bench_of(tmp_path / "b", {"can_revert": False}, allow_no_trial=True) as bench:
        assert (await attempt(bench, await bench.a_job()).deliver()).state is JobState.SUCCEEDED


@timeless
async def test_another_board_is_recognised_and_not_remembered(tmp_path: Path) -> None:
    async with bench_of(tmp_path, {"app_id": "fan"}) as bench:
        bench.settings = replace_devices(bench, a_device(), a_device("fan-1", app_id="fan"))
        error = await failure(bench, await bench.a_job())
        assert (error.code, "looks like fan-1" in str(error)) == ("wrong_app", True)
        assert await bench.store.run(Database.devices) == {}


def replace_devices(bench: Bench, *devices: Any) -> Any:
    return bench.settings.model_copy(update={"devices": devices})


@timeless
async def test_an_image_found_on_trial_is_confirmed(tmp_path: Path) -> None:
    info = {"running_sha256": X, "version": "4.3.2", "image_state": ImageState.ON_TRIAL, "boot_id": 9}
    async with bench_of(tmp_path, info) as bench:
        job = await attempt(bench, await bench.a_job()).deliver()
        assert job.state is JobState.SUCCEEDED
        assert bench.board.started == []
        assert bench.board.info.image_state is ImageState.CONFIRMED


@timeless
async def test_another_image_on_trial_is_left_in_peace(tmp_path: Path) -> None:
    async with bench_of(tmp_path, {"image_state": ImageState.ON_TRIAL}) as bench:
        assert (await failure(bench, await bench.a_job())).code == "on_trial"


@timeless
async def test_a_device_that_says_nothing_consistent_is_given_up(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        bench.board.restarts_instead_of_activate = 100
        error = await failure(bench, await bench.a_job())
        assert error.code == "not_confirmed"
        assert bench.board.heard.count("offer") == STEPS_PER_ATTEMPT


@timeless
@pytest.mark.parametrize(
    ("asked_s", "given_s"), [(2**32 - 1, LONGEST_DEFERRAL_S), (60, 60), (0, SHORTEST_DEFERRAL_S)]
)
async def test_a_device_that_wants_to_be_left_alone(tmp_path: Path, asked_s: int, given_s: int) -> None:
    async with bench_of(tmp_path) as bench:
        bench.board.says["offer"] = deque([Deferred(asked_s, 2)])
        one = attempt(bench, await bench.a_job())
        with pytest.raises(Deferral) as caught:
            await one.deliver()
        assert caught.value.seconds == given_s
        job = await one.put_off(caught.value)
        assert (job.state, job.code) == (JobState.QUEUED, "not_now")
        assert not bench.board.is_open


@timeless
async def test_what_was_resumed_is_counted_once(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        job = await bench.a_job()
        bench.board.received[X] = 3
        bench.board.says["finish"] = deque([Failed(DeviceError("no", code="stalled"))])
        one = attempt(bench, job)
        with pytest.raises(DeviceError):
            await one.deliver()
        job = await one.record(Retry(JobState.QUEUED, 1, 1.0), DeviceError("no", code="stalled"))
        assert (job.resumes, job.durable, job.failures, job.code) == (1, len(NEW), 1, "stalled")
        assert "/nowhere/pump-1: no" in job.reason
        assert (await attempt(bench, job).deliver()).resumes == 2


@timeless
async def test_a_job_that_was_interrupted_waits_before_it_goes_on(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        job = await bench.a_job()
        job = await bench.store.run(lambda db: db.move_job(job.id, JobState.TRANSFERRING))
        job = await bench.store.run(lambda db: db.move_job(job.id, JobState.STAGED))
        await attempt(bench, job).deliver()
        assert bench.witness.states == ["queued", *STATES]


@timeless
async def test_a_probe_asks_and_remembers(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        await attempt(bench).probe()
        assert bench.board.heard == ["hello"]
        assert (await bench.store.run(Database.devices))["pump-1"].info == bench.board.info.common
        assert bench.witness.seen == ["pump-1"]


@timeless
async def test_silence(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        bench.board.is_silent = True
        error = await failure(bench, await bench.a_job())
        assert isinstance(error, LinkError)
        assert error.code == "no_answer"


@timeless
async def test_a_defect_in_a_session_is_told_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(BoardSession, "receive_data", broken)
    async with bench_of(tmp_path) as bench:
        with pytest.raises(ZeroDivisionError):
            await attempt(bench).probe()
        assert not bench.board.is_open


@timeless
async def test_a_damaged_spool_file_ends_the_job(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        job = await bench.a_job()
        (tmp_path / "spool" / job.message_sha256).write_bytes(b"rot")
        assert (await failure(bench, replace(job))).code == "spool_damaged"


@timeless
async def test_a_link_that_knows_a_likely_cause_of_silence_gives_it_its_code(tmp_path: Path) -> None:
    class Bonded(BoardLink):
        silence_code = "bond_lost"
        silence_hint = "bluetoothctl remove"

    async with bench_of(tmp_path) as bench:
        bench.deps = replace(bench.deps, make_link=lambda _device: Bonded(bench.board))
        bench.board.is_silent = True
        error = await failure(bench, await bench.a_job())
        assert error.code == "bond_lost"
        assert "bluetoothctl remove" in error.hint


@timeless
async def test_another_reader_on_the_port_is_named_while_the_device_answers_and_when_it_does_not(
    tmp_path: Path,
) -> None:
    class Shared(BoardLink):
        async def rival(self) -> str:
            return "agetty (process 77)"

    async with bench_of(tmp_path) as bench:
        bench.deps = replace(bench.deps, make_link=lambda _device: Shared(bench.board))
        job = await bench.a_job()
        bench.board.says["offer"] = deque([Failed(DeviceError("nothing moves", code="stalled"))])
        stalled = await failure(bench, job)
        assert stalled.code == "stalled"
        assert "agetty (process 77)" in stalled.hint
        assert bench.witness.rivals[0].startswith("pump-1: agetty (process 77) has the port open, too")
        bench.board.is_silent = True
        silent = await failure(bench, await bench.job())
        assert silent.code == "port_contested"
        assert "serial-getty" in silent.hint
