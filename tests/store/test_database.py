"""What the database promises: each call happened, durably, or did not happen at all."""

import itertools
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.jobs import KEYS, TOPIC, TOPIC_TEXT, an_info, digest, genuine, message, standard_reading
from structlog.testing import capture_logs

from gatewayd.errors import HostError
from gatewayd.jobs.model import EVERYTHING, AttemptRecord, CreateJob, EndJob, Job, RomFacts, Verdict
from gatewayd.jobs.transitions import IllegalTransitionError, JobState
from gatewayd.ota.rules import RollbackMark
from gatewayd.ota.topic import Channel, OtaTopic
from gatewayd.protocol.image import ImageId
from gatewayd.protocol.session import DeviceInfo, ImageState
from gatewayd.store.attempts import KEPT_ATTEMPTS
from gatewayd.store.database import KEPT_JOBS, Database
from gatewayd.store.rows import device_of
from gatewayd.store.schema import SCHEMA_VERSION
from gatewayd.store.spool import Spool
from gatewayd.store.stored import write_json

LARGEST = 2**64 - 1
MARK = RollbackMark(LARGEST, bytes(range(32)))
DAMAGED = Verdict(code="spool_damaged", reason="gone")


class Times:
    def __init__(self) -> None:
        self._count = itertools.count()

    def __call__(self) -> str:
        return f"time {next(self._count)}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def database(path: Path, spool: Spool) -> Iterator[Database]:
    database = Database(path, spool, now=Times())
    yield database
    database.close()


def create(database: Database, device: str = "pump-1", state: JobState = JobState.QUEUED) -> Job:
    job = database.create_job(
        CreateJob(device, 1, digest("m"), "4.3.1", f"4.3.{LARGEST}", state, LARGEST, digest("c"))
    )
    assert job is not None
    return job


def test_a_replay_changes_nothing(database: Database) -> None:
    assert database.add_release(TOPIC, TOPIC_TEXT, message(2, b"image"))
    before = database.releases()
    assert not database.add_release(TOPIC, TOPIC_TEXT, message(2, b"image"))
    assert database.releases() == before


def test_a_message_that_is_to_be_alone_is_a_new_release_whatever_was_there(database: Database) -> None:
    for patch, kept in ((2, 1), (2, 1), (3, 1)):
        before = [release.id for release in database.releases()]
        assert database.add_release(TOPIC, TOPIC_TEXT, message(patch, b"x"), alone=True)
        (release,) = database.releases()
        assert len(database.releases()) == kept
        assert release.id not in before


def test_an_older_message_that_comes_again_is_the_newest(database: Database) -> None:
    for image in (b"one", b"two"):
        database.add_release(TOPIC, TOPIC_TEXT, message(2, image))
    ids = [release.id for release in database.releases()]
    assert database.add_release(TOPIC, TOPIC_TEXT, message(2, b"one"))
    assert [release.id for release in database.releases()] == ids[::-1]


def test_one_message_on_two_topics_is_two_releases_in_one_file(database: Database, tmp_path: Path) -> None:
    database.add_release(TOPIC, TOPIC_TEXT, message(2, b"image"))
    stable = OtaTopic("pump", LARGEST, LARGEST, Channel.STABLE)
    database.add_release(stable, f"/a/pump/u/{LARGEST}.{LARGEST}/s", message(2, b"image"))
    first, second = database.releases()
    assert (first.sha256, first.size, first.major, first.channel) == (second.sha256, 6, 4, Channel.NONE)
    assert (second.major, second.minor, second.channel) == (LARGEST, LARGEST, Channel.STABLE)
    assert len([path for path in (tmp_path / "spool").iterdir() if path.is_file()]) == 1


def test_withdrawing(database: Database) -> None:
    database.add_release(TOPIC, TOPIC_TEXT, message(2, b"image"))
    assert database.withdraw(TOPIC_TEXT)
    assert not database.withdraw(TOPIC_TEXT)
    assert database.releases() == []


def test_a_damaged_message_is_repaired_by_publishing_it_again(
    database: Database, spool: Spool, tmp_path: Path
) -> None:
    payload = message(2, b"image")
    database.add_release(TOPIC, TOPIC_TEXT, payload)
    (release,) = database.releases()
    database.save_verdict(release.sha256, standard_reading(), DAMAGED)
    (tmp_path / "spool" / release.sha256).write_bytes(b"rot")
    assert database.add_release(TOPIC, TOPIC_TEXT, payload)
    assert database.verdicts() == {}
    (repaired,) = database.releases()
    assert (repaired.id, repaired.seq > release.seq) == (release.id, True)
    assert spool.read(release.sha256) == payload


def test_a_start_looks_at_damaged_messages_again_and_at_no_others(database: Database) -> None:
    database.save_verdict("a", standard_reading(), DAMAGED)
    database.save_verdict("b", standard_reading(), Verdict(code="bad_signature"))
    database.recover()
    assert [sha256 for sha256, _ in database.verdicts()] == ["b"]


def test_files_stay_for_as_long_as_a_release_or_a_job_needs_them(database: Database, tmp_path: Path) -> None:
    database.add_release(TOPIC, TOPIC_TEXT, message(2, b"image"))
    (release,) = database.releases()
    database.save_verdict(release.sha256, standard_reading(), genuine(2))
    command = CreateJob("pump-1", release.id, release.sha256, "4.3.1", "4.3.2", JobState.QUEUED, None, "")
    job = database.create_job(command)
    assert job
    assert database.sweep_spool() == []
    database.drop_releases([release.id])
    assert database.sweep_spool() == []
    database.move_job(job.id, JobState.FAILED)
    assert database.sweep_spool() == [release.sha256]
    assert database.verdicts() == {}
    assert not (tmp_path / "spool" / release.sha256).exists()


def test_verdicts_come_back_as_they_were(database: Database) -> None:
    verdict = replace(
        genuine(LARGEST, LARGEST), roms=(RomFacts(2**32 - 1, 5, digest("a")), RomFacts(0, 6, digest("b")))
    )
    database.save_verdict("x", standard_reading(), verdict)
    database.save_verdict("x", replace(standard_reading(), key_fingerprint=KEYS.fingerprint), DAMAGED)
    assert database.verdicts()["x", standard_reading().key] == verdict
    assert len(database.verdicts()) == 2


def test_contacts_keep_the_mark(database: Database) -> None:
    database.save_contact("pump-1", an_info())
    job = create(database)
    database.succeed(job.id, MARK, code="", reason="")
    info = an_info(boot_id=2**32 - 1, tried_sha256=bytes(32), tried_count=255, hardware_id="ü", version=None)
    database.save_contact("pump-1", info)
    record = database.devices()["pump-1"]
    assert (record.info, record.mark) == (info, MARK)
    assert record.contact_seq > job.created_seq


def test_another_board_under_one_name_is_said_once_and_one_without_an_id_is_not(database: Database) -> None:
    with capture_logs() as logs:
        for device_id in ("a", "a", None, "b", "b"):
            database.save_contact("pump-1", an_info(device_id=device_id))
    assert [(one["device"], one["device_id"]) for one in logs] == []
    with capture_logs() as logs:
        for device_id in ("b", "c", "c"):
            database.save_contact("pump-1", an_info(device_id=device_id))
    (line,) = logs
    assert (line["device"], line["device_id_before"], line["device_id"]) == ("pump-1", "b", "c")


def test_the_mark_is_set_with_the_success_or_not_at_all(database: Database, path: Path) -> None:
    job = create(database)
    other = sqlite3.connect(path)
    other.execute("CREATE TRIGGER no BEFORE INSERT ON devices BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(sqlite3.Error):
        database.succeed(job.id, MARK, code="", reason="")
    assert database.job(job.id) == job
    other.execute("DROP TRIGGER no")
    other.close()
    assert database.succeed(job.id, MARK, code="", reason="").state is JobState.SUCCEEDED
    assert database.devices()["pump-1"].mark == MARK  # also of a device that never said anything


def test_a_device_has_one_job_under_way(database: Database) -> None:
    job = create(database)
    command = CreateJob("pump-1", 2, digest("n"), "4.3.1", "4.3.3", JobState.OFFERED, None, "")
    assert database.create_job(command) is None
    assert database.jobs() == [job]
    create(database, "pump-2")
    database.move_job(job.id, JobState.FAILED)
    assert database.create_job(command)


def test_a_job_comes_back_as_it_was_and_the_largest_numbers_too(path: Path, spool: Spool) -> None:
    database = Database(path, spool)
    job = create(database)
    changed = database.move_job(
        job.id, JobState.TRANSFERRING, boot_id=2**32 - 1, second_try=True, image_size=2**32 - 1, device_id="ü"
    )
    assert (changed.timestamp_ms, changed.version) == (LARGEST, f"4.3.{LARGEST}")
    database.close()
    again = Database(path, spool)
    assert again.jobs() == [changed]
    again.close()


def test_a_sweep_with_nothing_to_sweep_writes_nothing(database: Database, path: Path) -> None:
    create(database)
    wal = path.with_name(f"{path.name}-wal")
    before = wal.read_bytes()
    assert database.sweep_spool() == []
    assert wal.read_bytes() == before


def test_events_are_ordered_by_one_counter(database: Database) -> None:
    job = create(database)
    database.save_contact("pump-1", an_info())
    later = database.update_job(job.id, reason="why")
    assert job.updated_seq < database.devices()["pump-1"].contact_seq < later.updated_seq
    assert (later.created_seq, later.created_at) == (job.created_seq, job.created_at)
    assert later.updated_at != job.updated_at


@pytest.mark.parametrize("state", [JobState.TRANSFERRING, JobState.STAGED])
def test_a_start_lets_what_was_interrupted_wait_again(database: Database, state: JobState) -> None:
    job = create(database)
    for step in (JobState.TRANSFERRING, JobState.STAGED)[: 1 + (state is JobState.STAGED)]:
        database.move_job(job.id, step, durable=4096)
    (recovered,) = database.recover()
    assert (recovered.state, recovered.code, recovered.durable) == (JobState.QUEUED, "interrupted", 4096)
    assert database.recover() == []


def test_a_start_leaves_what_was_activating_and_what_waits(database: Database) -> None:
    job = create(database)
    for step in (JobState.TRANSFERRING, JobState.STAGED, JobState.ACTIVATING):
        database.move_job(job.id, step)
    create(database, "pump-2", JobState.OFFERED)
    before = database.jobs()
    assert database.recover() == []
    assert database.jobs() == before


def test_ending_a_job_that_has_gone_on_lets_it_stand(database: Database) -> None:
    job = create(database)
    command = EndJob(job.id, JobState.SUPERSEDED, "superseded", "4.3.9 was published")
    database.move_job(job.id, JobState.TRANSFERRING)
    assert database.end_job(command) is None
    assert database.job(job.id).state is JobState.TRANSFERRING
    ended = database.end_job(replace(command, state=JobState.CANCELLED))
    assert ended
    assert (ended.state, ended.code) == (JobState.CANCELLED, "superseded")


def test_old_jobs_are_forgotten_and_none_that_is_under_way(database: Database) -> None:
    waiting = create(database, "pump-2")
    for _ in range(KEPT_JOBS + 3):
        database.move_job(create(database).id, JobState.FAILED)
    assert len([job for job in database.jobs() if job.device == "pump-1"]) == KEPT_JOBS
    assert database.job(waiting.id) == waiting


def test_a_job_that_is_not_there(database: Database) -> None:
    with pytest.raises(HostError, match="no job 7") as caught:
        database.job(7)
    assert caught.value.code == "no_such_job"


def test_a_failed_commit_leaves_a_database_that_works(database: Database, path: Path) -> None:
    job = create(database)
    full = database._db.execute("PRAGMA page_count").fetchone()[0]  # noqa: SLF001 - a full disk, as SQLite sees it
    database._db.execute(f"PRAGMA max_page_count = {full}")  # noqa: SLF001
    with pytest.raises(sqlite3.OperationalError, match="full"):
        database.update_job(job.id, reason="x" * 100_000)
    assert database.job(job.id) == job
    database._db.execute("PRAGMA max_page_count = 1000000")  # noqa: SLF001
    assert database.update_job(job.id, reason="there is room again").reason == "there is room again"
    assert path.exists()


def test_a_database_of_the_first_version_is_taken_over(path: Path, spool: Spool) -> None:
    new = Database(path, spool)
    job = create(new)
    new.save_contact("pump-1", an_info())
    new.close()
    connection = sqlite3.connect(path)
    for column in ("topic", "decision", "retry_allowed"):
        connection.execute(f"ALTER TABLE jobs DROP COLUMN {column}")
    connection.executescript("DROP TABLE attempts; DROP TABLE pauses; PRAGMA user_version = 1;")
    for column in ("created_at", "updated_at"):
        connection.execute(f"UPDATE jobs SET {column} = replace({column}, 'Z', '+00:00')")  # noqa: S608 - ours
    connection.commit()
    connection.close()
    assert job.created_at.endswith("Z")
    for _ in range(2):  # the second time there is nothing to do
        database = Database(path, spool)
        assert database.job(job.id) == job, "also the other way of writing times"
        assert database.attempts(job.id) == []
        assert database.pauses() == {}
        assert database.devices()["pump-1"].info == an_info()
        database.close()


def attempt(code: str = "", **values: Any) -> AttemptRecord:
    return replace(AttemptRecord("begun", ended_at="ended", duration_s=1.0, code=code), **values)


def test_an_attempt_is_noted_with_the_jobs_move_or_not_at_all(database: Database) -> None:
    job = create(database)
    with pytest.raises(IllegalTransitionError):
        database.move_job(job.id, JobState.STAGED, attempt("lost"))
    assert database.attempts(job.id) == []
    database.move_job(job.id, JobState.TRANSFERRING, attempt(ended_at=""))
    database.move_job(job.id, JobState.QUEUED, attempt("lost", offset=0, received=5))
    assert database.attempts(job.id) == [attempt("lost", offset=0, received=5, number=1)]


def test_attempts_that_are_alike_in_vain_are_one_record(database: Database) -> None:
    job = create(database)
    for code, offset in (("a", None), ("a", None), ("b", None), ("b", 0), ("b", 0), ("b", None)):
        database.update_job(job.id, attempt(code, offset=offset))
    kept = database.attempts(job.id)
    assert [(one.number, one.code, one.times, one.duration_s) for one in kept] == [
        (1, "a", 2, 2.0),
        (2, "b", 1, 1.0),
        (3, "b", 1, 1.0),
        (4, "b", 1, 1.0),
        (5, "b", 1, 1.0),
    ]


def test_the_same_in_vain_is_counted_and_written_with_what_comes_next(path: Path, spool: Spool) -> None:
    database = Database(path, spool)
    job = database.update_job(create(database).id, attempt("a"), code="a")
    written = path.with_name(path.name + "-wal").stat().st_size
    for _ in range(1000):
        assert database.update_job(job.id, attempt("a"), code="a") == job
        assert database.interrupt_job(job.id, attempt("a"), code="a") == job
    assert path.with_name(path.name + "-wal").stat().st_size == written
    assert [one.times for one in database.attempts(job.id)] == [2001]
    database.update_job(job.id, attempt("a"), code="a", failures=1)
    database.update_job(job.id, attempt("a"), code="a", failures=1)
    database.update_job(job.id, attempt("b"), code="b", failures=1)
    database.update_job(job.id, attempt("b"), code="b", failures=1)
    database.update_job(job.id, code="", failures=2)
    database.update_job(job.id, attempt("b"), code="", failures=2)
    expected = [(1, "a", 2003, 2003.0), (2, "b", 3, 3.0)]
    for _ in range(2):  # while it runs, and after a stop
        kept = database.attempts(job.id)
        assert [(one.number, one.code, one.times, one.duration_s) for one in kept] == expected
        database.close()
        database = Database(path, spool)
    database.close()


def test_a_full_disk_keeps_nobody_from_closing(path: Path, spool: Spool) -> None:
    database = Database(path, spool)
    job = create(database)
    for _ in range(2):
        database.update_job(job.id, attempt("a"), code="a")
    database._db.set_authorizer(lambda *_: sqlite3.SQLITE_DENY)  # noqa: SLF001 - as a disk fails that is full
    database.close()
    again = Database(path, spool)
    assert [one.times for one in again.attempts(job.id)] == [1]
    again.close()


def test_the_oldest_attempts_are_forgotten_and_all_go_with_their_job(database: Database) -> None:
    job = create(database)
    for number in range(KEPT_ATTEMPTS + 5):
        database.update_job(job.id, attempt(f"code {number}"))
    assert [one.number for one in database.attempts(job.id)] == list(range(6, KEPT_ATTEMPTS + 6))
    database.end_job(EndJob(job.id, JobState.CANCELLED, "cancelled", ""))
    for _ in range(KEPT_JOBS + 1):
        database.end_job(EndJob(create(database).id, JobState.CANCELLED, "cancelled", ""))
    assert database.attempts(job.id) == []


@pytest.mark.parametrize("state", [JobState.TRANSFERRING, JobState.STAGED])
def test_a_job_that_is_interrupted_waits_again(database: Database, state: JobState) -> None:
    job = create(database)
    database.move_job(job.id, JobState.TRANSFERRING)
    if state is JobState.STAGED:
        database.move_job(job.id, state)
    assert database.interrupt_job(job.id, code="paused").state is JobState.QUEUED
    assert database.job(job.id).code == "paused"


def test_interrupting_leaves_what_was_activated_or_has_ended(database: Database) -> None:
    job = create(database)
    for state in (JobState.TRANSFERRING, JobState.STAGED, JobState.ACTIVATING):
        database.move_job(job.id, state)
    assert database.interrupt_job(job.id, code="paused").state is JobState.ACTIVATING
    database.succeed(job.id, None, attempt(""), code="")
    assert database.interrupt_job(job.id, attempt("paused"), code="paused").code == ""
    assert [one.code for one in database.attempts(job.id)] == [""], "it was the one that succeeded"


def test_pauses_are_kept_with_who_was_first(path: Path, spool: Spool) -> None:
    database = Database(path, spool)
    assert database.pause("pump-1", "ann")
    assert not database.pause("pump-1", "bob")
    assert database.pause(EVERYTHING, "bob")
    database.close()
    again = Database(path, spool)
    assert {name: pause.by for name, pause in again.pauses().items()} == {"pump-1": "ann", EVERYTHING: "bob"}
    assert again.resume("pump-1")
    assert not again.resume("pump-1")
    again.close()


def test_a_database_of_a_newer_version_is_not_touched(path: Path, spool: Spool) -> None:
    Database(path, spool).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(
        HostError, match=f"schema {SCHEMA_VERSION + 1}, known up to {SCHEMA_VERSION}"
    ) as caught:
        Database(path, spool)
    assert caught.value.code == "newer_database"


@given(
    texts=st.lists(st.one_of(st.none(), st.text(max_size=32)), min_size=3, max_size=3),
    digests=st.lists(st.one_of(st.none(), st.binary(min_size=32, max_size=32)), min_size=2, max_size=2),
    slot=st.one_of(st.none(), st.integers(0, 2**32 - 1)),
)
def test_what_a_device_says_of_itself_comes_back(
    texts: list[str | None], digests: list[bytes | None], slot: int | None
) -> None:
    info = an_info(
        hardware_id=texts[0],
        device_id=texts[1],
        version=texts[2],
        running_sha256=digests[0],
        tried_sha256=digests[1],
        slot_address=slot,
    )
    assert info_of(write_json(info)) == info


def info_of(text: str) -> DeviceInfo | None:
    """Read what stands in a device's row."""
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    row = connection.execute(
        "SELECT 'x' AS name, ? AS info, 1 AS contact_seq, '' AS contact_at,"
        " NULL AS mark_timestamp_ms, NULL AS mark_container",
        (text,),
    ).fetchone()
    connection.close()
    read = device_of(row)
    assert not read.unread
    return read.value.info


def test_a_device_as_an_earlier_version_wrote_it_is_read() -> None:
    earlier = {
        "app_id": "pump",
        "boot_id": 7,
        "image_state": 2,
        "max_frame": 1034,
        "window": 4096,
        "rx_ring": 8192,
        "slot_size": 65536,
        "erase_block": 4096,
        "write_unit": 8,
        "boot_time_s": 2,
        "can_set_baud": True,
        "can_revert": True,
        "hardware_id": None,
        "device_id": "A",
        "version": "4.3.1",
        "slot_address": None,
        "running_sha256": "11" * 32,
        "tried_sha256": "22" * 32,
        "tried_count": 1,
        "can_short_data": False,
    }
    info = info_of(json.dumps(earlier))
    assert info is not None
    assert info == an_info(
        boot_id=7, slot_size=65536, image_state=ImageState.REVERTED, tried_sha256=b"\x22" * 32
    )
    assert info_of(write_json(info)) == info


def test_a_device_of_another_protocol_is_read_as_it_was_written() -> None:
    info = DeviceInfo(
        None, boot_id="12", running=ImageId("mcuboot", b"\x01"), tried=ImageId.of_file(bytes(32))
    )
    assert info_of(write_json(info)) == info


def test_the_token_of_a_boot_and_the_name_of_an_image_come_back(database: Database) -> None:
    """A token that is text stays that, also where it looks like a number."""
    job = create(database)
    changed = database.move_job(job.id, JobState.TRANSFERRING, boot_id="007", image_id="crc:0102")
    assert database.job(job.id) == changed
    assert (changed.boot_id, changed.image) == ("007", ImageId("crc", b"\x01\x02"))
    assert database.update_job(job.id, is_armed=True).is_armed
    assert database.update_job(job.id, boot_id=7).boot_id == 7
    assert database.job(job.id).boot_id == 7
