"""What became of a virtual machine and of the scenarios in it."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from suites.vm.machine import TIMED_OUT

TAIL = 3000


@dataclass
class Scenario:
    """One row of the table. What goes wrong first is what is told."""

    name: str
    seconds: float = 0.0
    verdict: str = "not reached"

    def hear(self, told: dict[str, Any]) -> None:
        """Take in what guest/conftest.py tells of a phase."""
        self.seconds += told["seconds"]
        if told["outcome"] != "passed":
            if self.verdict in ("ok", "not reached"):
                self.verdict = f"{told['outcome']} in {told['phase']}: {told['why']}"
        elif told["phase"] == "call":
            self.verdict = "ok"

    def __str__(self) -> str:
        return f"{self.seconds:7.0f} s  {self.name.removeprefix('test_').replace('_', ' ')}: {self.verdict}"


@dataclass(frozen=True)
class Outcome:
    """What became of a machine; `out` has its logs, `status` is QEMU's."""

    name: str
    out: Path
    status: int
    seconds: float

    @cached_property
    def scenarios(self) -> list[Scenario]:
        results = self.out / "results"
        rows: dict[str, Scenario] = {}
        for told in map(json.loads, results.read_text().splitlines() if results.exists() else ()):
            row = rows.setdefault(told["scenario"], Scenario(told["scenario"]))
            if "phase" in told:
                row.hear(told)
        return list(rows.values())

    @property
    def is_well(self) -> bool:
        """Whether all was reached and went well, and the machine ended by itself."""
        rows = self.scenarios
        return self.status == 0 and bool(rows) and all(row.verdict == "ok" for row in rows)

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.seconds:.0f} s", *map(str, self.scenarios)]
        if not self.is_well:
            why = "its time was over" if self.status == TIMED_OUT else f"QEMU ended with {self.status}"
            lines += [why, *(_tail(self.out / name) for name in ("console", "log"))]
            lines.append(f"everything is in {self.out}")
        return "\n".join(lines)


def _tail(log: Path) -> str:
    text = log.read_text(errors="replace")[-TAIL:] if log.exists() else "nothing"
    return f"--- the end of {log}\n{text}"
