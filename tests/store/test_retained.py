"""What is stored of the broker's copies: written once, kept over an upgrade, of this database only."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from lab.jobs import TOPIC, TOPIC_TEXT, message

from gatewayd.jobs.eligibility import push_topic
from gatewayd.store.database import Database
from gatewayd.store.spool import Spool

OTHER_TEXT = "/a/tank/u/2.0"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(tmp_path / "db", Spool(tmp_path / "spool"))) as database:
        yield database


def add(database: Database, topic: str, payload: bytes, *, is_retained: bool) -> None:
    database.add_release(TOPIC, topic, payload)
    database.retained.note(topic, is_retained=is_retained)


def test_it_is_known_what_once_came_retained(database: Database) -> None:
    add(database, TOPIC_TEXT, message(2, b"x"), is_retained=False)
    assert database.retained.state().retained == {}
    add(database, TOPIC_TEXT, message(2, b"x"), is_retained=True)
    add(database, OTHER_TEXT, message(2, b"y"), is_retained=True)
    database.add_release(TOPIC, push_topic("pump-1"), message(3, b"z"))
    state = database.retained.state()
    by_topic = {release.topic: release.seq for release in database.releases()}
    assert state.retained == {TOPIC_TEXT: by_topic[TOPIC_TEXT], OTHER_TEXT: by_topic[OTHER_TEXT]}
    assert state.newest_seq == by_topic[OTHER_TEXT], "a push is not at the broker"


def test_a_newer_message_that_is_not_retained_hides_the_older(database: Database) -> None:
    add(database, TOPIC_TEXT, message(2, b"x"), is_retained=True)
    add(database, TOPIC_TEXT, message(3, b"x"), is_retained=False)
    assert database.retained.state().retained == {}


def test_what_is_known_already_is_not_written_again(database: Database) -> None:
    add(database, TOPIC_TEXT, message(2, b"x"), is_retained=True)
    before = database.commits
    for is_retained in (True, False):
        database.retained.note(TOPIC_TEXT, is_retained=is_retained)
    database.retained.note("unknown", is_retained=True)
    assert database.commits == before


def test_suspending_keeps_everything_until_the_message_comes(database: Database, tmp_path: Path) -> None:
    add(database, TOPIC_TEXT, message(2, b"x"), is_retained=True)
    database.retained.suspend([TOPIC_TEXT])
    (release,) = database.releases()
    assert release.suspended_at
    assert database.sweep_spool() == []
    assert (tmp_path / "spool" / release.sha256).exists()
    assert database.retained.state().retained == {}
    add(database, TOPIC_TEXT, message(2, b"x"), is_retained=True)
    assert not database.releases()[0].suspended_at
    database.retained.suspend([TOPIC_TEXT])
    assert database.withdraw(TOPIC_TEXT), "an empty message withdraws as ever"


def test_what_a_marker_did_not_vouch_for_is_forgotten(database: Database) -> None:
    for topic in (TOPIC_TEXT, OTHER_TEXT, "/a/fan/u/1.0"):
        add(database, topic, message(2, topic.encode()), is_retained=True)
    known = database.retained.state().retained
    database.retained.forget(known[TOPIC_TEXT], ["/a/fan/u/1.0"])
    assert database.retained.state().retained.keys() == {TOPIC_TEXT, "/a/fan/u/1.0"}


def test_the_identity_stays_and_is_of_this_database_only(tmp_path: Path) -> None:
    found = []
    for name in ("one", "one", "two"):
        with closing(Database(tmp_path / name, Spool(tmp_path / "spool"))) as database:
            found.append(database.retained.state().store_id)
    assert found[0] == found[1] != found[2]


def test_a_database_from_before_has_releases_of_which_nothing_is_known(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "db", Spool(tmp_path / "spool"))) as database:
        add(database, TOPIC_TEXT, message(2, b"x"), is_retained=True)
    with closing(sqlite3.connect(tmp_path / "db")) as db:
        db.executescript(
            "ALTER TABLE releases DROP COLUMN retained; ALTER TABLE releases DROP COLUMN suspended_at;"
            "DROP TABLE identity"
        )
    with closing(Database(tmp_path / "db", Spool(tmp_path / "spool"))) as database:
        assert database.retained.state().retained == {}
        assert [one.suspended_at for one in database.releases()] == [""]
