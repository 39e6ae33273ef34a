"""The tables, and how those of an earlier or later gatewayd are adapted.

SCHEMA_VERSION, stored as SQLite's user_version, says which versions may open the file: a gatewayd opens its
own schema and earlier ones. It goes up only if an earlier gatewayd would misread the file. Everything else is
an *addition*, and leaves it unchanged: a table, or a column that may be NULL or has a default. At each start
whatever is missing from _SCHEMA is added, and whatever is not in _SCHEMA is left alone; so two versions may
use one file in turns, and neither loses anything. To allow that, statements name the columns they write, and
none replaces a whole row.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from gatewayd.errors import HostError
from gatewayd.jobs.transitions import ENDED

# Constants for SQL: no value from outside ever becomes part of a statement.
ENDED_STATES = ", ".join(f"'{state}'" for state in sorted(ENDED))

_SCHEMA = f"""
CREATE TABLE counter (seq INTEGER NOT NULL);
INSERT INTO counter VALUES (0);
CREATE TABLE releases (
    id INTEGER PRIMARY KEY AUTOINCREMENT, seq INTEGER NOT NULL, received_at TEXT NOT NULL,
    topic TEXT NOT NULL, app_id TEXT NOT NULL, major TEXT NOT NULL, minor TEXT NOT NULL,
    channel TEXT NOT NULL, sha256 TEXT NOT NULL, size INTEGER NOT NULL,
    retained INTEGER NOT NULL DEFAULT 0, suspended_at TEXT NOT NULL DEFAULT '',
    from_line TEXT NOT NULL DEFAULT '',
    UNIQUE (topic, sha256));
CREATE TABLE verdicts (sha256 TEXT, reading TEXT, verdict TEXT NOT NULL, PRIMARY KEY (sha256, reading));
CREATE TABLE devices (
    name TEXT PRIMARY KEY, info TEXT, contact_seq INTEGER NOT NULL, contact_at TEXT NOT NULL,
    mark_timestamp_ms TEXT, mark_container BLOB);
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, state TEXT NOT NULL,
    release_id INTEGER NOT NULL, message_sha256 TEXT NOT NULL, from_version TEXT NOT NULL,
    version TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
    created_seq INTEGER NOT NULL, updated_seq INTEGER NOT NULL, attempt INTEGER NOT NULL,
    failures INTEGER NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL, image_sha256 TEXT NOT NULL,
    image_size INTEGER NOT NULL, timestamp_ms TEXT, container_sha256 TEXT NOT NULL,
    activated_at TEXT NOT NULL, boot_id INTEGER, device_id TEXT, second_try INTEGER NOT NULL,
    durable INTEGER NOT NULL, resumes INTEGER NOT NULL, topic TEXT NOT NULL, decision TEXT NOT NULL,
    retry_allowed INTEGER NOT NULL, boot_token TEXT, image_id TEXT NOT NULL DEFAULT '',
    is_armed INTEGER NOT NULL DEFAULT 0, peer TEXT, retry_reverted INTEGER NOT NULL DEFAULT 0);
CREATE TABLE attempts (
    job_id INTEGER NOT NULL, number INTEGER NOT NULL, record TEXT NOT NULL, PRIMARY KEY (job_id, number));
CREATE TABLE pauses (name TEXT PRIMARY KEY, since TEXT NOT NULL, by TEXT NOT NULL);
CREATE TABLE marks (
    app_id TEXT NOT NULL, kind TEXT NOT NULL, board TEXT NOT NULL, timestamp_ms TEXT NOT NULL,
    container BLOB NOT NULL, PRIMARY KEY (app_id, kind, board));
CREATE TABLE identity (id TEXT NOT NULL);
-- None doubled: whatever a planner says, a device has at most one job under way.
CREATE UNIQUE INDEX one_active_job ON jobs (device) WHERE state NOT IN ({ENDED_STATES});
CREATE INDEX jobs_by_device ON jobs (device, id);
"""  # noqa: S608 - a constant
# From each version to the next. All of them, completed with additions, give the same tables as _SCHEMA.
_UPGRADES = {
    1: """
ALTER TABLE jobs ADD COLUMN topic TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN decision TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN retry_allowed INTEGER NOT NULL DEFAULT 0;
CREATE TABLE attempts (
    job_id INTEGER NOT NULL, number INTEGER NOT NULL, record TEXT NOT NULL, PRIMARY KEY (job_id, number));
CREATE TABLE pauses (name TEXT PRIMARY KEY, since TEXT NOT NULL, by TEXT NOT NULL);
UPDATE releases SET received_at = replace(received_at, '+00:00', 'Z');
UPDATE devices SET contact_at = replace(contact_at, '+00:00', 'Z');
UPDATE jobs SET created_at = replace(created_at, '+00:00', 'Z'),
    updated_at = replace(updated_at, '+00:00', 'Z'),
    activated_at = replace(activated_at, '+00:00', 'Z');
""",
    2: "",
}
# 3: fields of stored values may be added and removed (see stored.py), which 0.1.0 took for damage.
SCHEMA_VERSION = 3


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Create or upgrade the tables, in one transaction. Raises HostError `newer_database`."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise HostError(
            f"{path} was written by a newer gatewayd: schema {version}, known up to {SCHEMA_VERSION}",
            code="newer_database",
            hint="install that version again, or move the state directory away",
        )
    steps = [_UPGRADES[step] for step in range(version, SCHEMA_VERSION)] if version else [_SCHEMA]
    if version < SCHEMA_VERSION:
        connection.executescript(
            f"BEGIN IMMEDIATE; {''.join(steps)} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )
    if additions := _additions(connection):
        connection.executescript(f"BEGIN IMMEDIATE; {';'.join(additions)}; COMMIT;")


def columns_of(connection: sqlite3.Connection, table: str) -> dict[str, str]:
    """Return the columns of a table, each with its declaration. Empty: there is no such table."""
    return {
        row[1]: f"{row[1]} {row[2]}{' NOT NULL' if row[3] else ''}{f' DEFAULT {row[4]}' if row[4] else ''}"
        for row in connection.execute(f"PRAGMA table_info({table})")
    }


def _additions(connection: sqlite3.Connection) -> list[str]:
    """Return the statements that add what is missing from _SCHEMA."""
    with closing(sqlite3.connect(":memory:")) as model:
        model.executescript(_SCHEMA)
        objects = model.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        wanted = {name: columns_of(model, name) for kind, name, _ in objects if kind == "table"}
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    additions = [sql for _, name, sql in objects if name not in there and not name.startswith("sqlite_")]
    for table in sorted(wanted.keys() & there):
        has = columns_of(connection, table)
        additions += [
            f"ALTER TABLE {table} ADD COLUMN {declared}"
            for column, declared in wanted[table].items()
            if column not in has
        ]
    return additions
