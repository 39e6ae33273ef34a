"""The dashboard as Grafana would use it: panels, their queries, and what the variables become."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lab.tree import ROOT

FILE = ROOT / "docs" / "prometheus" / "grafana-dashboard.json"


@dataclass(frozen=True)
class Query:
    """One query of a panel."""

    panel: str
    ref: str
    expression: str

    def with_values(self, values: Mapping[str, str]) -> str:
        """Put in what Grafana would; every variable must have a value."""
        return re.sub(r"\$([a-z_]+)", lambda found: values[found[1]], self.expression)


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


def queries() -> Iterator[Query]:
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield Query(panel["title"], target["refId"], target["expr"])
