"""The alert rules ask for metrics and labels that there are; `make test-prometheus` has promtool try them."""

import re
from typing import Any

import yaml
from lab.tree import ROOT

from gatewayd.metrics import STATES

RULES = ROOT / "docs" / "prometheus" / "gatewayd.rules.yaml"
CASES = ROOT / "tests" / "suites" / "prometheus" / "gatewayd.rules.test.yaml"
PAGE = (ROOT / "docs" / "metrics.md").read_text()


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def documented() -> dict[str, set[str]]:
    """Return the labels of each metric, as the page's table has them."""
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", PAGE, re.MULTILINE)
    return {f"gatewayd_{name}": set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


def test_what_the_rules_ask_for_is_there() -> None:
    metrics = documented()
    for rule in rules():
        named = re.findall(r"gatewayd_\w+", rule["expr"])
        assert named
        assert set(named) <= metrics.keys(), rule["alert"]
        labels = set().union(*(metrics[one] for one in named)) | {"job", "instance"}
        used = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        used |= {
            one for group in re.findall(r"(?:by|on) \((.*?)\)", rule["expr"]) for one in group.split(", ")
        }
        assert used <= labels, rule["alert"]
        for states in re.findall(r'state=~"(.*?)"', rule["expr"]):
            assert set(states.split("|")) <= set(STATES)


def test_each_rule_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    cases = [case for test in yaml.safe_load(CASES.read_text())["tests"] for case in test["alert_rule_test"]]
    for rule in rules():
        fires = {bool(case["exp_alerts"]) for case in cases if case["alertname"] == rule["alert"]}
        assert fires == {True, False}, rule["alert"]


def test_the_page_names_each_alert() -> None:
    assert set(re.findall(r"`(Gatewayd\w+)`", PAGE)) == {rule["alert"] for rule in rules()}
