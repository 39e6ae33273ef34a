"""A damaged state directory: what is put into quarantine, what is kept, what is asked for again."""

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from lab.jobs import TOPIC, TOPIC_TEXT, an_info, message

from gatewayd.doctor.host import examine_quarantine
from gatewayd.errors import HostError
from gatewayd.jobs.model import EVERYTHING, CreateJob
from gatewayd.jobs.transitions import JobState
from gatewayd.planning.keeping import damaged_topics
from gatewayd.planning.reconciler import _read
from gatewayd.store.database import Database
from gatewayd.store.quarantine import KEPT, Quarantine
from gatewayd.store.salvage import SUFFIXES
from gatewayd.store.spool import Spool
from gatewayd.store.store import Store

PAGE = 4096
MESSAGE = message(2, b"image" * 100)


async def fill(state_dir: Path) -> None:
    """Make a database of several pages, with one release, one contact and one pause."""
    async with Store(state_dir) as store:
        await store.add_release(TOPIC, TOPIC_TEXT, MESSAGE)
        await store.run(lambda db: db.save_contact("pump-1", an_info(version="4.3.1")))
        await store.run(lambda db: db.pause(EVERYTHING, "root"))
        for number in range(60):
            await store.run(lambda db, n=number: db.save_contact(f"pump-{n + 2}", an_info(app_id="x" * 100)))  # type: ignore[misc]


def overwrite(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def rewrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def every_page_but_the_first(path: Path) -> None:
    size = path.stat().st_size
    assert size > 4 * PAGE
    overwrite(path, PAGE, random.Random(1).randbytes(size - PAGE))


DAMAGE: dict[str, Callable[[Path], None]] = {
    "the header": lambda path: overwrite(path, 0, b"\0" * 100),
    "text in its place": lambda path: rewrite(path, b"no database" * 1000),
    "a page in the middle": lambda path: overwrite(path, 3 * PAGE, random.Random(2).randbytes(PAGE)),
    "every page but the first": every_page_but_the_first,
    "cut to half": lambda path: rewrite(path, path.read_bytes()[: path.stat().st_size // 2]),
    "zeros": lambda path: rewrite(path, bytes(path.stat().st_size)),
}


@pytest.mark.parametrize("what", DAMAGE)
async def test_a_damaged_database_goes_into_quarantine_and_a_new_one_works(tmp_path: Path, what: str) -> None:
    await fill(tmp_path)
    DAMAGE[what](tmp_path / "gatewayd.db")
    damaged = (tmp_path / "gatewayd.db").read_bytes()
    async with Store(tmp_path) as store:
        (folder,) = (tmp_path / "quarantine").iterdir()
        assert (folder / "gatewayd.db").read_bytes() == damaged
        told = examine_quarantine(tmp_path)
        assert [one.code for one in told] == ["state_damaged"]
        is_whole = not what.startswith(("the header", "text", "every page", "zeros", "cut"))
        assert ("marks: kept" in told[0].text) == is_whole, told
        await store.add_release(TOPIC, TOPIC_TEXT, MESSAGE)
        assert [one.topic for one in await store.run(Database.releases)] == [TOPIC_TEXT]
    async with Store(tmp_path) as store:
        assert [one.topic for one in await store.run(Database.releases)] == [TOPIC_TEXT]
        assert len(list((tmp_path / "quarantine").iterdir())) == 1


async def test_what_can_be_read_is_kept(tmp_path: Path) -> None:
    await fill(tmp_path)
    database = sqlite3.connect(tmp_path / "gatewayd.db")
    database.execute(
        "UPDATE devices SET mark_timestamp_ms = '77', mark_container = x'01' WHERE name = 'pump-1'"
    )
    database.execute("INSERT INTO verdicts VALUES ('a', 'b', 'no JSON')")
    database.commit()
    database.close()
    async with Store(tmp_path) as store:
        (release,) = await store.run(Database.releases)
        assert store.spool.read(release.sha256) == MESSAGE
        devices = await store.run(Database.devices)
        assert len(devices) == 61
        assert devices["pump-1"].mark is not None
        assert devices["pump-1"].mark.timestamp_ms == 77
        assert list(await store.run(Database.pauses)) == [EVERYTHING]
        assert await store.run(Database.verdicts) == {}
        # Events go on from where they were: what comes now is later than what was taken over.
        await store.add_release(TOPIC, TOPIC_TEXT, message(3, b"newer"))
        assert [one.seq for one in await store.run(Database.releases)][-1] > release.seq


@pytest.mark.parametrize("damage", ["cut", "noise", "gone", "zeros"])
async def test_a_damaged_log_of_changes_never_stops_a_start(tmp_path: Path, damage: str) -> None:
    await fill(tmp_path / "a")
    async with Store(tmp_path / "a") as store:
        await store.run(lambda db: db.resume(EVERYTHING))
        shutil.copytree(tmp_path / "a", tmp_path / "b")  # as a power cut leaves it: with a WAL
    wal = tmp_path / "b" / "gatewayd.db-wal"
    size = wal.stat().st_size
    assert size > 0
    match damage:
        case "cut":
            wal.write_bytes(wal.read_bytes()[: size // 2])
        case "noise":
            wal.write_bytes(random.Random(3).randbytes(size))
        case "zeros":
            wal.write_bytes(bytes(size))
        case "gone":
            wal.unlink()
    async with Store(tmp_path / "b") as store:
        assert [one.topic for one in await store.run(Database.releases)] == [TOPIC_TEXT]


async def test_damage_that_shows_later_is_seen_to_by_the_next_start(tmp_path: Path) -> None:
    def fail(_: Database) -> None:
        error = sqlite3.DatabaseError("database disk image is malformed")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error

    await fill(tmp_path)
    async with Store(tmp_path) as store:
        with pytest.raises(HostError) as raised:
            await store.run(fail)
        assert raised.value.code == "database_damaged"
        assert store.damaged.is_set()
    for _ in range(2):  # replaced at the first start after it, kept at the second
        async with Store(tmp_path) as store:
            assert len(list((tmp_path / "quarantine").iterdir())) == 1
            assert len(await store.run(Database.devices)) == 61


async def test_a_newer_database_is_no_damage(tmp_path: Path) -> None:
    await fill(tmp_path)
    database = sqlite3.connect(tmp_path / "gatewayd.db")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(HostError) as raised:
        await Store(tmp_path).open()
    assert raised.value.code == "newer_database"
    assert not (tmp_path / "quarantine").exists()


def test_quarantine_keeps_the_newest(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "q")
    for number in range(KEPT + 2):
        (tmp_path / "file").write_text(str(number))
        quarantine.put([tmp_path / "file", *(tmp_path / f"none{suffix}" for suffix in SUFFIXES)], "why")
    kept = sorted((folder / "file").read_text() for folder in (tmp_path / "q").iterdir())
    assert kept == [str(number) for number in range(2, KEPT + 2)]


@pytest.mark.parametrize("damage", ["zeros", "cut", "gone", "changed"])
async def test_a_damaged_message_is_never_handed_out_and_is_asked_for(tmp_path: Path, damage: str) -> None:
    async with Store(tmp_path) as store:
        await store.add_release(TOPIC, TOPIC_TEXT, MESSAGE)
        (release,) = await store.run(Database.releases)
        command = CreateJob("pump-1", release.id, release.sha256, "4.3.1", "4.3.2", JobState.QUEUED, None, "")
        job = await store.run(lambda db: db.create_job(command))
        assert job is not None
        file = tmp_path / "spool" / release.sha256
        content = file.read_bytes()
        match damage:
            case "zeros":
                file.write_bytes(bytes(len(content)))
            case "cut":
                file.write_bytes(content[:-1])
            case "changed":
                file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            case "gone":
                file.unlink()
        assert damaged_topics(await store.run(_read)) == frozenset()
        with pytest.raises(HostError) as raised:
            store.spool.read(release.sha256)
        assert raised.value.code == "spool_damaged"
        assert not file.exists()
        assert (tmp_path / "quarantine").exists() == (damage != "gone")
        await store.run(lambda db: db.move_job(job.id, JobState.FAILED, code="spool_damaged", reason="x"))
        assert damaged_topics(await store.run(_read)) == {TOPIC_TEXT}
        assert await store.add_release(TOPIC, TOPIC_TEXT, MESSAGE)  # it came again
        assert store.spool.read(release.sha256) == MESSAGE
        assert damaged_topics(await store.run(_read)) == frozenset()


@pytest.mark.parametrize("name", ["gatewayd.db", "gatewayd.db-wal", "gatewayd.db-shm", "ballast", "damaged"])
async def test_a_directory_in_the_place_of_a_file_is_moved_away(tmp_path: Path, name: str) -> None:
    await fill(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name / "within").mkdir(parents=True)
    async with Store(tmp_path) as store:
        assert not (tmp_path / name).is_dir()
        assert len(await store.run(Database.devices)) == (0 if name == "gatewayd.db" else 61)
    assert len(list((tmp_path / "quarantine").glob(f"*/{name}/within"))) == 1


def test_columns_that_we_do_not_have_are_left_out(tmp_path: Path) -> None:
    """Damage may hit the schema of the old database: its names then say anything."""
    database = Database(tmp_path / "gatewayd.db", Spool(tmp_path / "spool"))
    good = {"name": "pump-1", "since": "2026-11-26T00:00:00Z", "by": "root"}
    odd = "x) VALUES (1); DROP TABLE jobs; --"
    database.adopt(
        {
            "pauses": [good | {odd: 1}, {odd: 1}, {"NAME": "pump-2"}],
            "releases": [{odd: 1}],
        }
    )
    assert list(database.pauses()) == ["pump-1"]
    assert not database.jobs()
    database.close()


async def test_rows_on_both_sides_of_a_bad_page_are_kept(tmp_path: Path) -> None:
    await fill(tmp_path)
    path = tmp_path / "gatewayd.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = path.read_bytes()
    page = content.index(b'pump-30{"app_id"') // PAGE  # the row itself, not an index
    overwrite(path, page * PAGE, b"\xa5" * PAGE)
    async with Store(tmp_path) as store:
        kept = await store.run(Database.devices)
    assert {"pump-1", "pump-61"} <= kept.keys()
    assert "pump-30" not in kept


async def test_a_mark_is_kept_where_the_rest_of_its_row_is_damaged(tmp_path: Path) -> None:
    await fill(tmp_path)
    with closing(sqlite3.connect(tmp_path / "gatewayd.db")) as database:
        database.execute(
            "UPDATE devices SET contact_seq = 'x', info = x'ff', mark_timestamp_ms = '77',"
            " mark_container = x'01' WHERE name = 'pump-9'"
        )
        database.commit()
    (tmp_path / "damaged").touch()
    async with Store(tmp_path) as store:
        record = (await store.run(Database.devices))["pump-9"]
        await store.run(lambda db: db.pause("pump-9", "ann"))  # events can still be ordered
    assert record.mark is not None
    assert (record.info, record.mark.timestamp_ms) == (None, 77)


async def test_a_state_directory_that_is_made_is_on_the_disk_with_its_parents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[Path] = set()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.add(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    state_dir = tmp_path / "srv" / "gatewayd" / "state"
    async with Store(state_dir):
        pass
    assert {tmp_path, *state_dir.parents[:2], state_dir, state_dir / "spool"} <= synced
