"""The picture of Prometheus' answer in docs/metrics.md: `make pictures`."""

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from lab.tree import ROOT

from suites.prometheus.dashboard import queries
from suites.prometheus.dashboard_in_prometheus import ALL, Moment, _moment
from suites.web.browser import Browser, a_browser

__all__ = ["_moment"]
PICTURE = ROOT / "docs" / "images" / "prometheus.png"


@pytest.fixture(name="browser")
def _browser() -> Iterator[Browser]:
    with a_browser() as browser:
        yield browser


def test_who_needs_somebody_as_prometheus_shows_it(browser: Browser, moment: Moment) -> None:
    (query,) = [one for one in queries() if one.panel == "Who needs somebody"]
    asked = {"g0.expr": query.with_values({"gateway": ALL, "app": ALL}), "g0.tab": "1"}
    browser.look(1280, height=560)
    # Debian leaves out the newer of the two pages that Prometheus has.
    browser.driver.get(f"{moment.server.address}/classic/graph?{urlencode(asked)}")
    browser.until(lambda: "gate-1" in browser.text("body"), "the answer")
    shown = browser.text("body")
    assert all(f'code="{code}"' in shown for code in ("reverted", "link_missing", "decrypt_failed"))
    PICTURE.parent.mkdir(exist_ok=True)
    browser.driver.save_screenshot(str(PICTURE))
