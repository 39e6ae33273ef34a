"""Tells the host what becomes of each scenario, at once: the machine may be ended in the middle."""

import json
from pathlib import Path

import pytest

OUT = Path("/out")


def pytest_collection_finish(session: pytest.Session) -> None:
    for item in session.items:
        _tell(scenario=item.name)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _tell(
        scenario=report.nodeid.rpartition("::")[2],
        phase=report.when,
        outcome=report.outcome,
        seconds=report.duration,
        why=_why(report),
    )


def _why(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(getattr(crash, "message", "")).partition("\n")[0]


def _tell(**facts: object) -> None:
    with (OUT / "results").open("a") as results:
        results.write(json.dumps(facts) + "\n")
