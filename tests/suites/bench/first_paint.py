"""How soon the page is there: chromium's own times, for a page loaded without a cache, over loopback."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

from lab.web import MadeUpGateway, a_view

from suites.bench.section import Scale, Section, figures, markdown, spread

# Devices on the page.
PAGES = (8, 200)
LOADS, QUICK_LOADS = 5, 1
_FIRST_PAINT = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
# Runs before the page's own scripts: notes when the last card is there.
_NOTE = """
new MutationObserver(() => {
  const count = document.querySelectorAll('.cards .card').length;
  if (!window.shown && count === COUNT) window.shown = performance.now();
}).observe(document, { childList: true, subtree: true });
"""


def _load(devices: int, loads: int) -> dict[str, Any]:
    from suites.web.browser import Stage, a_browser  # noqa: PLC0415 - selenium and chromium may be absent

    painted, shown = [], []
    views = [a_view(f"pump-{number}") for number in range(devices)]
    with (
        tempfile.TemporaryDirectory(prefix="gatewayd-bench-") as folder,
        Stage(Path(folder), MadeUpGateway(*views)) as stage,
        a_browser() as browser,
    ):
        browser.look(1280)
        browser.driver.execute_cdp_cmd("Network.enable", {})
        browser.driver.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": True})
        note = {"source": _NOTE.replace("COUNT", str(devices))}
        browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", note)
        for _ in range(loads):
            browser.driver.get(stage.web.address)
            browser.until(lambda: browser.script("return window.shown"), "all devices")
            browser.until(lambda: browser.script(_FIRST_PAINT), "the first paint")
            painted.append(browser.script(_FIRST_PAINT))
            shown.append(browser.script("return window.shown"))
    return {"devices": devices, "all_devices_ms": round(sorted(shown)[loads // 2])} | spread(
        "first_paint_ms", painted, 0
    )


async def run(scale: Scale) -> list[dict[str, Any]] | dict[str, str]:
    """Measure it, or say what is missing."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            return {"absent": f"{program} is not installed"}
    loads = QUICK_LOADS if scale.is_quick else LOADS
    return [await asyncio.to_thread(_load, devices, loads) for devices in PAGES]


def table(rows: list[dict[str, Any]] | dict[str, str]) -> str:
    """Show it, for people."""
    if isinstance(rows, dict):
        return f"absent: {rows['absent']}"
    return markdown(
        "devices:, first paint ms:, lowest:, highest:, all devices are there after ms:",
        ([row["devices"], *figures(row, "first_paint_ms", 0), row["all_devices_ms"]] for row in rows),
    )


SECTION = Section("first_paint", "The page in a browser", run, table)
