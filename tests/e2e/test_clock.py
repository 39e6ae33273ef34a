"""A clock that is wrong, or that jumps: updates do not depend on it."""

import json
import random
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lab.desk import Desk, desk

IMAGE = random.Random(8).randbytes(60_000)
(LIBRARY,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")


@pytest.fixture(name="whole")
def _whole(tmp_path: Path) -> Iterator[Desk]:
    assert shutil.which("faketime")
    with desk(tmp_path) as whole:
        yield whole


class Clock:
    """The wall clock of the daemon alone. Steady time goes on, as when a person sets the clock."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "faketime"

    def set(self, offset: str) -> None:
        draft = self._file.with_suffix(".new")
        draft.write_text(offset)
        draft.rename(self._file)

    def start(self, whole: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            patch.setenv("LD_PRELOAD", str(LIBRARY))
            patch.setenv("FAKETIME_TIMESTAMP_FILE", str(self._file))
            patch.setenv("FAKETIME_NO_CACHE", "1")
            patch.setenv("DONT_FAKE_MONOTONIC", "1")
            whole.start()


def hours_ahead(whole: Desk) -> int:
    """How far the daemon's clock is ahead of ours, by what it logs when it is told something."""
    whole.good("reload")
    lines = [json.loads(line) for line in whole.log().splitlines() if "configuration reloaded" in line]
    told = datetime.fromisoformat(lines[-1]["timestamp"])
    return round((told - datetime.now(UTC)).total_seconds() / 3600)


@pytest.mark.parametrize(("offset", "years"), [("-6y", -6), ("+14y", 14)])
def test_with_a_clock_that_is_years_off(
    whole: Desk, monkeypatch: pytest.MonkeyPatch, offset: str, years: int
) -> None:
    clock = Clock(whole.folder)
    clock.set(offset)
    whole.configure(whole.device("pump-1").config())
    clock.start(whole, monkeypatch)
    whole.publish("pump", "4.3.2", IMAGE)
    whole.until_state("pump-1", "succeeded")
    (job,) = whole.jobs("pump-1")
    assert whole.devices["pump-1"].active == IMAGE
    # The clock was really that far off: what is shown is told by it.
    here = datetime.now(UTC).year
    assert abs(int(job.updated_at[:4]) - here - years) <= 1


def test_with_a_clock_that_jumps_an_hour_to_and_fro(whole: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(whole.folder)
    clock.set("+0")
    whole.configure(whole.device("pump-1", rate=5_000).config())  # eight seconds, for a busy machine
    clock.start(whole, monkeypatch)
    whole.publish("pump", "4.3.2", IMAGE[:40_000])
    whole.until_state("pump-1", "transferring")
    for offset, hours in (("+1h", 1), ("-1h", -1), ("+0", 0)):
        clock.set(offset)
        assert hours_ahead(whole) == hours
    assert whole.views()["pump-1"].state == "transferring"  # all of that was in mid-transfer
    whole.until_state("pump-1", "succeeded")
    (job,) = whole.jobs("pump-1")
    assert (job.resumes, job.failures, whole.devices["pump-1"].active) == (0, 0, IMAGE[:40_000])
