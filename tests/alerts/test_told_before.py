"""What was told is remembered, and only that."""

import errno
import os
from pathlib import Path

import pytest

from gatewayd.alerts.events import Event
from gatewayd.alerts.memory import Memory
from gatewayd.errors import HostError


def failed(job: int) -> Event:
    return Event("failed", "pump-1", str(job))


def test_it_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "told.json"
    memory = Memory.load(path)
    assert memory.since is None
    memory.since = "2026-11-28T12:00:00Z"
    memory.tell(failed(7))
    memory.save()
    again = Memory.load(path)
    assert again.since == memory.since
    assert [again.is_told(failed(job)) for job in (6, 7, 8)] == [True, True, False]
    assert not again.is_told(Event("refused", "pump-1", "7"))
    assert [one.name for one in tmp_path.iterdir()] == ["told.json"]


def test_what_may_come_again_is_forgotten_when_it_is_over() -> None:
    memory = Memory()
    for event in (Event("unreachable", "pump-1", "no_answer"), Event("refused", "pump-1", "rollback 4.3.2")):
        memory.tell(event)
        memory.is_over("pump-1", event.name)
        assert memory.is_told(event) is (event.name == "refused")


def test_with_a_new_database_jobs_are_counted_from_the_beginning() -> None:
    memory = Memory()
    for event in (failed(7), Event("refused", "pump-1", "rollback 4.3.2")):
        memory.tell(event)
    memory.forget_jobs_above(7)
    assert memory.is_told(failed(7))
    memory.forget_jobs_above(6)
    assert not memory.is_told(failed(1))
    assert memory.is_told(Event("refused", "pump-1", "rollback 4.3.2"))


def test_a_device_that_is_gone_is_forgotten() -> None:
    memory = Memory()
    memory.tell(failed(7))
    memory.forget("pump-1")
    assert memory.told == {}


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"told": {"pump-1": 7}}'])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "told.json").write_text(text)
    assert Memory.load(tmp_path / "told.json").told == {}


def test_a_number_that_is_none_was_not_told() -> None:
    assert not Memory(told={"pump-1": {"failed": "seven"}}).is_told(failed(7))


def test_without_a_file_it_remembers_all_the_same() -> None:
    memory = Memory.load(None)
    memory.tell(failed(7))
    memory.save()
    assert memory.is_told(failed(7))


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot write"):
        Memory(tmp_path / "nowhere" / "told.json").save()


def test_what_cannot_be_saved_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full would fill further with each attempt."""

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HostError, match="No space left on device"):
        Memory(tmp_path / "told.json").save()
    assert list(tmp_path.iterdir()) == []
