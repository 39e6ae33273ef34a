"""One thread, one connection, one daemon."""

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest
from lab.jobs import TOPIC, TOPIC_TEXT, message

from gatewayd.errors import HostError
from gatewayd.store.database import Database
from gatewayd.store.schema import SCHEMA_VERSION
from gatewayd.store.store import Store


async def test_what_is_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    async with Store(tmp_path / "state") as store:
        assert await store.add_release(TOPIC, TOPIC_TEXT, message(2, b"image"))
    async with Store(tmp_path / "state") as store:
        (release,) = await store.run(Database.releases)
        assert store.spool.read(release.sha256) == message(2, b"image")
        assert await store.withdraw(TOPIC_TEXT)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


async def test_all_work_is_done_in_one_thread_in_order(tmp_path: Path) -> None:
    async with Store(tmp_path) as store:
        seen: list[int] = []
        await asyncio.gather(*(store.run(lambda _, n=n: seen.append(n)) for n in range(20)))  # type: ignore[misc]
        threads = {await store.run(lambda _: threading.get_ident()) for _ in range(5)}
    assert seen == list(range(20))
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


async def test_a_second_daemon_is_turned_away_and_the_first_undisturbed(tmp_path: Path) -> None:
    async with Store(tmp_path) as store:
        with pytest.raises(HostError) as caught:
            async with Store(tmp_path):
                pass
        assert caught.value.code == "state_dir_locked"
        assert await store.run(Database.releases) == []
    async with Store(tmp_path):
        pass


async def test_a_failed_start_leaves_no_lock_behind(tmp_path: Path) -> None:
    async with Store(tmp_path):
        pass
    connection = sqlite3.connect(tmp_path / "gatewayd.db")
    connection.execute("PRAGMA user_version = 99")
    with pytest.raises(HostError, match="schema 99"):
        async with Store(tmp_path):
            pass
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.close()
    async with Store(tmp_path):
        pass


async def test_trouble_with_disk_or_database_has_one_name(tmp_path: Path) -> None:
    def fail(_: Database) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    async with Store(tmp_path / "state") as store:
        with pytest.raises(HostError, match="disk I/O error") as caught:
            await store.run(fail)
    assert caught.value.code == "storage_failed"
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError) as caught:
        async with Store(tmp_path / "file" / "state"):
            pass
    assert caught.value.code == "storage_failed"
