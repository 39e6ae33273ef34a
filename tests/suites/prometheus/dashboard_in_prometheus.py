"""Each query of the dashboard, asked of a real Prometheus that scrapes real gateways."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import pytest
import yaml
from lab.tree import ROOT

from gatewayd import __version__
from gatewayd.control.client import ask
from gatewayd.control.metrics_messages import MetricsResult
from gatewayd.control.requests import Metrics
from suites.prometheus.dashboard import dashboard, queries
from suites.prometheus.scene import LAMP_RATE, Scene, a_scene
from suites.prometheus.server import Labels, Prometheus, a_prometheus, labels

Rows = dict[Labels, float]
ALL = ".*"
RATE_S = 5


@dataclass(frozen=True)
class Moment:
    """The scene is over: its Prometheus, when to ask it, and how long before nothing had happened yet."""

    scene: Scene
    server: Prometheus
    at: float
    since_s: int
    # What the daemon at barn said of the lamp, before and after the scrape.
    lamp: tuple[int, int]

    def rows(self, panel: str, ref: str = "A", gateway: str = ALL, app: str = ALL) -> Rows:
        """Return what a panel shows with the variables like that; nothing: no row."""
        (query,) = [one for one in queries() if (one.panel, one.ref) == (panel, ref)]
        values = {
            "gateway": gateway,
            "app": app,
            "__interval": f"{self.since_s}s",
            "__rate_interval": f"{RATE_S}s",
        }
        return self.server.query(query.with_values(values), self.at)


@pytest.fixture(name="moment", scope="module")
def _moment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moment]:
    folder = tmp_path_factory.mktemp("prometheus")
    with a_scene(folder) as scene:
        targets = [re.sub("http://|/$", "", page.address) for page in scene.pages.values()]
        with a_prometheus(folder / "server", targets) as server:
            began = server.until_scraped()
            scene.play()
            with scene.full_disk():
                # The rate is one of the last seconds, all of which have to be scraped.
                enough = f"min(timestamp(up)) > {server.until_scraped() + RATE_S}"
                server.until(lambda: server.query(enough), "enough seconds for a rate")
                before = _lamps_progress(scene)
                at = server.until_scraped()
                yield Moment(scene, server, at, math.ceil(at - began), (before, _lamps_progress(scene)))


def _lamps_progress(scene: Scene) -> int:
    progress = scene.barn.views()["lamp-1"].progress
    assert progress is not None
    return progress


def row(value: float, **named: str) -> Rows:
    return {labels(named): value}


def device(gateway: str, name: str, value: float = 1, **more: str) -> Rows:
    """The row of a device, as most panels have it."""
    return row(value, gateway=gateway, device=name, app=name.rpartition("-")[0], **more)


def sick(name: str, state: str, code: str) -> Rows:
    return device("barn", name, state=state, code=code, installed_version="4.3.1")


def states(*names: str) -> Rows:
    return {labels({"state": name}): 1 for name in names}


def counts(label: str, **counted: int) -> Rows:
    return {labels({label: name}): count for name, count in counted.items()}


def gateways(*names: str) -> Rows:
    return {labels({"gateway": name, "version": __version__}): 1 for name in names}


SICK = (
    sick("meter-1", "unreachable", "link_missing")
    | sick("tank-1", "refused", "decrypt_failed")
    | sick("gate-1", "failed", "reverted")
)
MOVED = ("failed", "offered", "refused", "succeeded", "transferring", "unreachable")
ENDED = counts("result", succeeded=1, failed=1, cancelled=1, superseded=1)
REVERTED = row(1, app="gate", code="reverted")
STORED = counts("outcome", stored=7)
# Panel and query -> what all gateways have, and what barn and shed have. The scene says why.
EXACT: dict[tuple[str, str], tuple[Rows, Rows, Rows]] = {
    ("Gateways connected", "A"): (row(1), row(1), row(0)),
    ("Gateways connected", "B"): (row(2), row(1), row(1)),
    ("Devices", "A"): (row(7), row(6), row(1)),
    ("Need somebody", "A"): (row(3), row(3), row(0)),
    ("Refuse what was published", "A"): (row(1), row(1), row(0)),
    ("Wait for approval", "A"): (row(1), row(1), row(0)),
    ("Under way", "A"): (row(1), row(1), row(0)),
    ("Configuration refused", "A"): (row(1), row(1), row(0)),
    ("Cannot store", "A"): (row(1), row(1), row(0)),
    ("Who needs somebody", "A"): (SICK, SICK, {}),
    ("Gateways", "A"): (gateways("barn", "shed"), gateways("barn"), gateways("shed")),
    ("Devices by state", "A"): (states("idle", *MOVED), states(*MOVED), states("idle")),
    ("Updates that ended", "A"): (ENDED, ENDED, {}),
    ("Failures by code", "A"): (REVERTED, REVERTED, {}),
    ("Messages with firmware", "A"): (STORED, STORED, {}),
}
# Those that move; each has a test of its own.
MOVING = {
    ("Progress", "A"),
    ("Bytes a second", "A"),
    ("Published, and no device runs it", "A"),
    ("Memory of the daemons", "A"),
}


def test_every_query_is_expected_to_give_something() -> None:
    assert {(query.panel, query.ref) for query in queries()} == EXACT.keys() | MOVING
    assert all(any(everything.values()) for everything, _, _ in EXACT.values()), "a zero is no proof"


@pytest.mark.parametrize(("panel", "ref"), EXACT)
def test_a_panel_shows_what_is_so(moment: Moment, panel: str, ref: str) -> None:
    everything, barn, shed = EXACT[panel, ref]
    assert moment.rows(panel, ref) == everything
    assert moment.rows(panel, ref, "(barn|shed)") == everything, "two that are chosen"
    assert moment.rows(panel, ref, "barn") == barn
    assert moment.rows(panel, ref, "shed") == shed


def test_one_application_is_chosen(moment: Moment) -> None:
    assert moment.rows("Need somebody", app="gate") == row(1)
    assert moment.rows("Who needs somebody", app="(gate|lamp)") == sick("gate-1", "failed", "reverted")
    assert moment.rows("Devices by state", app="lamp") == states("transferring")
    assert moment.rows("Updates that ended", app="valve") == counts("result", cancelled=1, superseded=1)
    assert moment.rows("Progress", app="pump") == {}


def test_progress_is_what_the_daemon_says(moment: Moment) -> None:
    (value,) = moment.rows("Progress").values()
    assert moment.rows("Progress").keys() == device("barn", "lamp-1").keys()
    assert moment.rows("Progress", gateway="shed") == {}
    before, after = moment.lamp
    assert 0 < before <= value * 100 <= after


def test_bytes_a_second_are_those_of_the_line(moment: Moment) -> None:
    (value,) = moment.rows("Bytes a second").values()
    assert moment.rows("Bytes a second").keys() == row(1, gateway="barn", device="lamp-1").keys()
    assert moment.rows("Bytes a second", gateway="shed") == {}
    assert 0.7 * LAMP_RATE < value < 1.05 * LAMP_RATE, "all but framing; never more than the line carries"


def test_what_nobody_runs_has_the_age_that_the_daemon_knows(moment: Moment) -> None:
    releases = ask(moment.scene.barn.socket, Metrics(), MetricsResult).releases
    expected = {
        labels(
            {
                "gateway": "barn",
                "app": one.app_id,
                "line": one.line,
                "channel": one.channel,
                **({"version": one.version} if one.version else {}),
            }
        ): moment.at - datetime.fromisoformat(one.received_at).timestamp()
        for one in releases
        if one.app_id != "pump"
    }
    assert {dict(one)["app"] for one in expected} == {"gate", "lamp", "tank", "valve"}
    for gateway in (ALL, "barn"):
        found = moment.rows("Published, and no device runs it", gateway=gateway)
        assert found == pytest.approx(expected, abs=0.01)


def test_memory_is_that_of_the_processes(moment: Moment) -> None:
    found = moment.rows("Memory of the daemons")
    for one in (moment.scene.barn, moment.scene.shed):
        now = ask(one.socket, Metrics(), MetricsResult).resident_bytes
        assert found[labels({"gateway": one.gateway.name})] == pytest.approx(now, rel=0.3)


def test_the_variables_offer_gateways_and_applications(moment: Moment) -> None:
    found = {}
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
            assert match
            found[variable["name"]] = moment.server.api(f"label/{match[2]}/values", **{"match[]": match[1]})
    assert found == {"gateway": ["barn", "shed"], "app": ["gate", "lamp", "meter", "pump", "tank", "valve"]}


def test_the_rules_find_what_is_wrong(moment: Moment) -> None:
    """Within what was waited for the rate: five minutes reach back to when all was well."""
    rules = yaml.safe_load((ROOT / "docs" / "prometheus" / "gatewayd.rules.yaml").read_text())
    found = {
        rule["alert"]: {
            dict(one).get("device", "the gateway")
            for one in moment.server.query(rule["expr"].replace("[5m]", f"[{RATE_S}s]"), moment.at)
        }
        for rule in rules["groups"][0]["rules"]
    }
    assert found == {
        "GatewaydDeviceStuck": {"meter-1", "tank-1", "gate-1"},
        "GatewaydUpdateWaits": {"lamp-1"},
        "GatewaydReleaseNotTaken": set(),  # nothing was published a day ago
        "GatewaydOffline": {"the gateway"},
        "GatewaydAbsent": set(),  # nothing is gone
        "GatewaydDiskTrouble": {"the gateway"},
        "GatewaydConfigurationRefused": {"the gateway"},
    }
