"""Stored values outlive versions: tests/vectors/store has state directories as earlier versions wrote them.

It holds a job in mid-transfer and one that waits for approval, history with attempts, decisions, verdicts,
anti-rollback marks and pauses. Each is opened by the code of the day: as it is, as a later version could have
written it, as an earlier one, and with its values changed at random.
"""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.folders import a_folder
from lab.jobs import a_device, some_settings
from structlog.testing import capture_logs

from gatewayd.jobs.model import EVERYTHING, Pause
from gatewayd.jobs.transitions import JobState
from gatewayd.ota.version import Version
from gatewayd.planning.planner import StoreSnapshot, plan
from gatewayd.protocol.image import ImageId
from gatewayd.store.database import Database
from gatewayd.store.schema import SCHEMA_VERSION
from gatewayd.store.store import Store

VECTORS = Path(__file__).parents[1] / "vectors" / "store"
RELEASES = sorted(path.name for path in VECTORS.iterdir() if path.is_dir())
JSON_VALUES = (("devices", "info"), ("verdicts", "verdict"), ("attempts", "record"))
KEYS_OF = {"devices": ("name",), "verdicts": ("sha256", "reading"), "attempts": ("job_id", "number")}
LINE = 2**64 - 1


@contextmanager
def changed(state_dir: Path) -> Iterator[sqlite3.Connection]:
    """Change the database by hand."""
    with closing(sqlite3.connect(state_dir / "gatewayd.db")) as connection:
        connection.row_factory = sqlite3.Row
        yield connection
        connection.commit()


def stored_json(connection: sqlite3.Connection) -> list[tuple[str, str, tuple[Any, ...], dict[str, Any]]]:
    """Return every stored value: table, column, its row's key, its fields."""
    return [
        (table, column, tuple(row[key] for key in KEYS_OF[table]), json.loads(row[column]))
        for table, column in JSON_VALUES
        for row in rows_of(connection, table)
        if row[column] is not None
    ]


def rows_of(connection: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    """Return the rows of a table in the order of their keys, each with its rowid."""
    query = f"SELECT rowid AS rowid, * FROM {table} ORDER BY 2"  # noqa: S608 - a name of ours
    return [dict(row) for row in connection.execute(query)]


def put(connection: sqlite3.Connection, table: str, column: str, key: tuple[Any, ...], value: object) -> None:
    named = " AND ".join(f"{name} = ?" for name in KEYS_OF[table])
    connection.execute(f"UPDATE {table} SET {column} = ? WHERE {named}", (value, *key))  # noqa: S608 - names of ours


def as_it_is(_: sqlite3.Connection) -> None:
    """Change nothing."""


def as_a_later_version(connection: sqlite3.Connection) -> None:
    """Add what a later version could add without raising the schema's version."""
    connection.execute("CREATE TABLE rollouts (app_id TEXT PRIMARY KEY, stage INTEGER NOT NULL)")
    connection.execute("INSERT INTO rollouts VALUES ('pump', 3)")
    for table in ("releases", "verdicts", "devices", "jobs", "attempts", "pauses"):
        connection.execute(f"ALTER TABLE {table} ADD COLUMN later TEXT NOT NULL DEFAULT 'kept'")
    for table, column, key, value in stored_json(connection):
        more = {"later": {"signed_by": ["ann"]}, "another": None}
        if "roms" in value:
            value["roms"] = [rom | more for rom in value["roms"]]
        put(connection, table, column, key, json.dumps(value | more))


def as_an_earlier_version(connection: sqlite3.Connection) -> None:
    """Leave out what of a value a version before could not know."""
    for table, column, key, value in stored_json(connection):
        known = ("window", "slot_size", "can_revert", "boot_time_s", "resumes", "bytes_repeated", "times")
        fewer = {name: one for name, one in value.items() if name not in known}
        put(connection, table, column, key, json.dumps(fewer))


@dataclass(frozen=True)
class Known:
    """All that a store knows."""

    snapshot: StoreSnapshot
    attempts: Mapping[int, list[Any]]


def everything(database: Database) -> Known:
    jobs = database.jobs()
    snapshot = StoreSnapshot(
        database.releases(), database.verdicts(), database.devices(), jobs, database.pauses()
    )
    return Known(snapshot, {job.id: database.attempts(job.id) for job in jobs})


async def opened(state_dir: Path) -> Known:
    """Open it as a daemon does; nothing may be called damaged."""
    async with Store(state_dir) as store:
        assert not (state_dir / "quarantine").exists()
        return await store.run(everything)


def a_copy(release: str, state_dir: Path) -> Path:
    shutil.copytree(VECTORS / release, state_dir)
    return state_dir


@pytest.mark.parametrize("change", [as_it_is, as_a_later_version, as_an_earlier_version])
@pytest.mark.parametrize("release", RELEASES)
async def test_what_a_version_wrote_is_read_for_ever(
    tmp_path: Path, release: str, change: Callable[[sqlite3.Connection], None]
) -> None:
    state_dir = a_copy(release, tmp_path / "state")
    with changed(state_dir) as connection:
        change(connection)
        truth = {
            table: rows_of(connection, table)
            for table in ("releases", "jobs", "devices", "verdicts", "pauses", "attempts")
        }
    async with Store(state_dir) as store:
        assert not (state_dir / "quarantine").exists()
        known = await store.run(everything)
        for one in known.snapshot.releases:
            assert len(store.spool.read(one.sha256)) == one.size
    check_rows(known, truth)
    check_values(known, truth)


def check_rows(known: Known, truth: Mapping[str, list[dict[str, Any]]]) -> None:
    """What is in columns."""
    for one, row in zip(known.snapshot.releases, truth["releases"], strict=True):
        told = asdict(one)
        for name in set(row) & set(told):
            assert str(told[name]) == str(row[name]), name
        assert set(told) - set(row) <= {
            "retained",
            "suspended_at",
            "from_line",
        }  # which this version did not write
    for job, row in zip(known.snapshot.jobs, truth["jobs"], strict=True):
        told = asdict(job)
        for name in set(row) & set(told):
            assert told[name] == (int(row[name]) if name == "timestamp_ms" and row[name] else row[name]), name
    pauses = {row["name"]: Pause(row["since"], row["by"]) for row in truth["pauses"]}
    assert known.snapshot.pauses == pauses
    assert set(pauses) == {EVERYTHING, "tag-7"}


def check_values(known: Known, truth: Mapping[str, list[dict[str, Any]]]) -> None:
    """What is in JSON, as far as the code of the day has a field for it."""
    for row in truth["devices"]:
        record = known.snapshot.devices[row["name"]]
        assert (record.contact_seq, record.contact_at) == (row["contact_seq"], row["contact_at"])
        mark = record.mark and (str(record.mark.timestamp_ms), record.mark.container_sha256)
        assert mark == (row["mark_timestamp_ms"] and (row["mark_timestamp_ms"], row["mark_container"]))
        if row["info"] is not None:
            assert record.info is not None
            info = json.loads(row["info"])
            for name in ("app_id", "hardware_id", "device_id", "version", "slot_address"):
                assert getattr(record.info, name) == info[name]
            running = info["running_sha256"]
            assert record.info.running == (running and ImageId("sha256", bytes.fromhex(running)))
    for row in truth["verdicts"]:
        verdict = asdict(known.snapshot.verdicts[row["sha256"], row["reading"]])
        stored = json.loads(row["verdict"])
        for rom, facts in zip(verdict.pop("roms"), stored.pop("roms"), strict=True):
            assert rom == {name: facts.get(name, "") for name in rom}
        assert verdict == {name: stored.get(name, "") for name in verdict}
    for row in truth["attempts"]:
        told = {one.number: asdict(one) for one in known.attempts[row["job_id"]]}[row["number"]]
        stored = json.loads(row["record"])
        for name in set(told) & set(stored):
            assert told[name] == stored[name], name


@pytest.mark.parametrize("release", RELEASES)
async def test_what_was_under_way_goes_on(tmp_path: Path, release: str) -> None:
    async with Store(a_copy(release, tmp_path / "state")) as store:
        (job,) = await store.run(Database.recover)
        assert (job.device, job.version, job.state) == ("pump-1", "4.3.3", JobState.QUEUED)
        (attempt,) = await store.run(lambda db: db.attempts(job.id))
        assert (attempt.code, attempt.received) == ("interrupted", 9216)
        offered = [one for one in await store.run(Database.jobs) if one.state is JobState.OFFERED]
        assert [(one.device, one.version) for one in offered] == [("pump-2", "4.3.3")]


async def test_two_versions_take_turns_and_neither_loses_anything(tmp_path: Path) -> None:
    """This version writes to each table; what a later one had put there is still there afterwards."""
    state_dir = a_copy(RELEASES[-1], tmp_path / "state")
    await opened(state_dir)
    with changed(state_dir) as connection:
        as_a_later_version(connection)
        connection.execute("UPDATE jobs SET later = 'mine'")
        connection.execute("UPDATE attempts SET later = 'mine'")
        connection.execute("UPDATE devices SET later = 'mine'")
    known = await opened(state_dir)
    info = known.snapshot.devices["pump-1"].info
    assert info is not None
    async with Store(state_dir) as store:
        await store.run(Database.recover)
        await store.run(lambda db: db.save_contact("pump-1", info))
        await store.run(lambda db: db.resume("tag-7"))
        assert await store.run(lambda db: db.pause("tag-7", "bob"))
    with changed(state_dir) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION
        assert connection.execute("SELECT stage FROM rollouts").fetchone()[0] == 3
        for table in ("jobs", "attempts", "devices"):
            assert {row["later"] for row in rows_of(connection, table)} == {"mine"}


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.just("\ud800"),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@pytest.mark.slow
@given(data=st.data())
def test_fields_that_come_go_and_turn_to_junk_cost_their_value_and_nothing_else(data: st.DataObject) -> None:
    with a_folder() as folder:
        release = data.draw(st.sampled_from(RELEASES))
        before, state_dir = look(a_copy(release, folder / "before")), a_copy(release, folder / "state")
        with changed(state_dir) as connection:
            table, column, key, value = data.draw(st.sampled_from(stored_json(connection)))
            for _ in range(data.draw(st.integers(1, 4))):
                if data.draw(st.booleans()):
                    value[data.draw(st.text(max_size=6))] = data.draw(JUNK)
                elif value and data.draw(st.booleans()):
                    value.pop(data.draw(st.sampled_from(sorted(value))))
                elif value:
                    value[data.draw(st.sampled_from(sorted(value)))] = data.draw(JUNK)
            text = data.draw(st.sampled_from([json.dumps(value)] * 3 + ["[" * 99999, "{", "17", "null", ""]))
            put(connection, table, column, key, text)
        after = look(state_dir)
    assert others(before, table, key) == others(after, table, key)
    assert marks(before) == marks(after)


@pytest.mark.slow
@given(data=st.data())
def test_a_column_that_turns_to_junk_costs_its_row_and_nothing_else(data: st.DataObject) -> None:
    with a_folder() as folder:
        release = data.draw(st.sampled_from(RELEASES))
        before, state_dir = look(a_copy(release, folder / "before")), a_copy(release, folder / "state")
        with changed(state_dir) as connection:
            table = data.draw(st.sampled_from(["jobs", "releases", "devices", "pauses", "counter"]))
            columns = [row["name"] for row in connection.execute(f"PRAGMA table_info({table})")]
            column = data.draw(st.sampled_from([name for name in columns if name not in ("id", "name")]))
            rowid = data.draw(st.sampled_from([row["rowid"] for row in rows_of(connection, table)]))
            junk = data.draw(st.sampled_from(["junk", b"\xff\xfe", -1, 0.5, "", "\x00"]))
            with suppress(sqlite3.IntegrityError):  # a second job under way for a device
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (junk, rowid))  # noqa: S608 - names of ours
        after = look(state_dir)
    for name in ("jobs", "releases"):
        hit = rowid if table == name else None
        kept = [one for one in getattr(before.snapshot, name) if one.id != hit]
        assert kept == [one for one in getattr(after.snapshot, name) if one.id != hit]
    assert before.snapshot.verdicts == after.snapshot.verdicts
    if table != "devices":
        assert before.snapshot.devices == after.snapshot.devices
    assert before.snapshot.pauses.keys() == after.snapshot.pauses.keys()


def look(state_dir: Path) -> Known:
    """Return what is known; the planner must be able to work with it, and the next start to write."""
    spool = Store(state_dir)
    spool._open()  # noqa: SLF001 - what `open` does, without an event loop for each of a thousand
    try:
        known = everything(spool._opened)  # noqa: SLF001
        spool._opened.recover()  # noqa: SLF001
        again = everything(spool._opened)  # noqa: SLF001
    finally:
        spool._close()  # noqa: SLF001
    assert not (state_dir / "quarantine").exists()
    devices = [a_device("pump-1"), a_device("pump-2", install="manual")]
    devices.append(a_device("tag-7", app_id="tag", version=Version(LINE, LINE, 1)))
    plan(some_settings(*devices), known.snapshot)
    plan(some_settings(*devices), again.snapshot)
    return known


def others(known: Known, table: str, key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return all that is known but for one value."""
    devices = {
        name: record
        for name, record in known.snapshot.devices.items()
        if (table, key) != ("devices", (name,))
    }
    verdicts = {at: one for at, one in known.snapshot.verdicts.items() if (table, key) != ("verdicts", at)}
    attempts = {
        (job, one.number): one
        for job, many in known.attempts.items()
        for one in many
        if (table, key) != ("attempts", (job, one.number))
    }
    return devices, verdicts, attempts, known.snapshot.releases, known.snapshot.jobs, known.snapshot.pauses


def marks(known: Known) -> dict[str, Any]:
    return {name: record.mark for name, record in known.snapshot.devices.items()}


async def test_the_log_names_what_could_not_be_read_once(tmp_path: Path) -> None:
    state_dir = a_copy(RELEASES[0], tmp_path / "state")
    with changed(state_dir) as connection:
        connection.execute("UPDATE devices SET info = 'no JSON' WHERE name = 'pump-1'")
        connection.execute("UPDATE devices SET mark_timestamp_ms = 'soon' WHERE name = 'tag-8'")
    with capture_logs() as logs:
        async with Store(state_dir) as store:
            for _ in range(3):
                devices = await store.run(Database.devices)
    assert devices["pump-1"].info is None
    assert devices["pump-1"].mark is not None, "it is kept apart"
    told = [(one["code"], one["table"], one["row"]) for one in logs if one["log_level"] == "error"]
    assert told == [("stored_unreadable", "devices", "pump-1"), ("stored_unreadable", "devices", "tag-8")]
    assert all(one["reason"] for one in logs if one["log_level"] == "error")


@pytest.mark.parametrize("field", ["code", "timestamp_ms", "container_sha256", "roms"])
async def test_a_verdict_that_lacks_something_is_made_again(tmp_path: Path, field: str) -> None:
    """A refusal that has lost its code would let the firmware pass."""
    state_dir = a_copy(RELEASES[0], tmp_path / "state")
    with changed(state_dir) as connection:
        for table, column, key, value in stored_json(connection):
            if table == "verdicts":
                del value[field]
                put(connection, table, column, key, json.dumps(value))
    assert (await opened(state_dir)).snapshot.verdicts == {}


async def test_a_job_in_a_state_of_another_version_ends_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    state_dir = a_copy(RELEASES[0], tmp_path / "state")
    with changed(state_dir) as connection:
        connection.execute("UPDATE jobs SET state = 'waiting_for_window' WHERE id = 2")
    job = {job.id: job for job in (await opened(state_dir)).snapshot.jobs}[2]
    assert (job.state, job.code) == (JobState.CANCELLED, "stored_unreadable")


async def test_a_release_that_cannot_be_read_costs_no_other(tmp_path: Path) -> None:
    state_dir = a_copy(RELEASES[0], tmp_path / "state")
    with changed(state_dir) as connection:
        connection.execute("UPDATE releases SET channel = 'nightly' WHERE id = 2")
    async with Store(state_dir) as store:
        assert [one.id for one in await store.run(Database.releases)] == [1, 3]
