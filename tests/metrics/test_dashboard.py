"""The dashboard is one that Grafana can take, and asks for what there is.

`make test-prometheus` asks a real Prometheus each of its queries. Grafana itself is not in Debian.
"""

import json
import re
from itertools import combinations
from typing import Any

import pytest
from metrics.test_rules import PAGE, documented
from suites.prometheus.dashboard import FILE, dashboard, queries

from gatewayd.metrics import STATES

PANELS = dashboard()["panels"]
VARIABLES = {one["name"]: one for one in dashboard()["templating"]["list"]}
# What Grafana puts in by itself.
BUILT_IN = {"__interval", "__rate_interval"}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24


def test_it_is_one_to_import() -> None:
    """Since version 36, which is Grafana 9's, a data source is an object. Grafana takes older ones."""
    found = dashboard()
    assert found["schemaVersion"] >= 36
    assert (found["id"], found["uid"], found["title"]) == (None, "gatewayd", "gatewayd")
    kinds = {one["id"] for one in found["__requires"] if one["type"] == "panel"}
    assert kinds == {panel["type"] for panel in PANELS}
    assert "dashboard" in PAGE
    assert f"prometheus/{FILE.name}" in PAGE


def test_the_data_source_is_chosen_by_whoever_imports_it() -> None:
    assert VARIABLES["datasource"]["type"] == "datasource"
    assert VARIABLES["datasource"]["query"] == "prometheus"
    places = [*PANELS, *(target for panel in PANELS for target in panel["targets"])]
    places += [one for one in VARIABLES.values() if one["type"] == "query"]
    assert [one["datasource"] for one in places] == [SOURCE] * len(places)
    assert not re.search(r'"uid": "(?!\$\{datasource\}|gatewayd")', json.dumps(dashboard()))


def test_panels_do_not_overlap_and_fit_the_width() -> None:
    assert len({panel["id"] for panel in PANELS}) == len({panel["title"] for panel in PANELS}) == len(PANELS)
    cells: list[set[tuple[int, int]]] = []
    for panel in PANELS:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= COLUMNS
        cells.append(
            {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        )
    assert not any(one & other for one, other in combinations(cells, 2))


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_has_what_its_kind_needs(panel: dict[str, Any]) -> None:
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0
    for target in panel["targets"]:
        assert target["instant"] is not target["range"]
        assert target["instant"] is (panel["type"] != "timeseries")
        assert target["format"] == ("table" if panel["type"] == "table" else "time_series")
    assert "unit" in panel["fieldConfig"]["defaults"] or panel["type"] == "table"


def test_what_is_asked_for_is_there() -> None:
    metrics = documented()
    suffixes = re.compile("_(bucket|count|sum)$")
    for query in queries():
        named = {suffixes.sub("", name) for name in re.findall(r"gatewayd_\w+", query.expression)}
        assert named
        assert named <= metrics.keys(), query
        known = set().union(*(metrics[one] for one in named)) | {"job", "instance"}
        used = set(re.findall(r'(\w+)=~?"', query.expression))
        grouped = re.findall(r"(?:by|on|group_left) \((.*?)\)", query.expression)
        used |= {one for group in grouped for one in group.split(", ")}
        assert used <= known, query
        for states in re.findall(r'state=~"(.*?)"', query.expression):
            assert set(states.split("|")) <= set(STATES)


def test_every_query_follows_the_chosen_gateway_and_no_variable_is_unknown() -> None:
    for query in queries():
        assert 'gatewayd_build_info{gateway=~"$gateway"}' in query.expression, query
        used = set(re.findall(r"\$([a-z_]+)", query.expression))
        assert used <= VARIABLES.keys() | BUILT_IN
        if "app" in set().union(*(documented()[name] for name in _metrics_of(query.expression))):
            assert 'app=~"$app"' in query.expression, query
    for name in ("gateway", "app"):
        assert VARIABLES[name]["multi"]
        assert VARIABLES[name]["allValue"] == ".*"


def _metrics_of(expression: str) -> set[str]:
    return set(re.findall(r"gatewayd_\w+", expression)) - {"gatewayd_build_info"}
