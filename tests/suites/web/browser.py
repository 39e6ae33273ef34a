"""A real chromium, headless, and the processes and made-up gateways whose page it opens."""

import asyncio
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from lab.tree import ROOT
from lab.web import MadeUpGateway, a_control_server
from lab.web_process import WebProcess
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

DEADLINE_S = 120.0
# As `make test-web` installs it: a package on PyPI that brings the script along.
AXE = ROOT / ".venv" / "axe" / "axe_playwright_python" / "axe.min.js"
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # tests run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--force-prefers-reduced-motion",
)


class Browser:
    """One window."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, address: str, width: int = 1280, *, dark: bool = False, height: int = 900) -> None:
        """Load a page anew in a window of this width, and wait until it is live."""
        self.look(width, dark=dark, height=height)
        self.driver.get(address)
        self.until(lambda: self.text("#connection"), "the page is there")

    def look(self, width: int, *, dark: bool = False, height: int = 900) -> None:
        """Make the window so wide, and the system light or dark."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    @property
    def focused(self) -> WebElement:
        return self.driver.switch_to.active_element

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.one(selector).text

    def card(self, name: str) -> WebElement:
        return next(
            card for card in self.all(".cards .card") if card.find_element(By.TAG_NAME, "h3").text == name
        )

    def press(self, name: str, op: str) -> None:
        """Press a button of a device's card."""
        self.until(lambda: self.card(name).find_elements(By.CSS_SELECTOR, f"button[data-op={op}]"), op)
        self.card(name).find_element(By.CSS_SELECTOR, f"button[data-op={op}]").click()

    def sign_in(self, user: str, password: str) -> None:
        self.until(lambda: self.one("#sign-in-dialog").is_displayed(), "it asks who this is")
        for field, said in (("#user", user), ("#password", password)):
            self.one(field).clear()
            self.one(field).send_keys(said)
        self.one("#sign-in-form button.main").click()

    def script(self, code: str, *words: Any) -> Any:
        return self.driver.execute_script(code, *words)

    def until(self, reached: Callable[[], object], what: str = "") -> None:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                if reached():
                    return
            except (StopIteration, StaleElementReferenceException):
                pass
            assert time.monotonic() < deadline, f"waited in vain for {what}: {self.text('body')}"
            time.sleep(0.05)

    def complaints(self) -> list[str]:
        """What the console has against the page; that a server was away is none."""
        lines = [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]  # of selenium
        return [line for line in lines if not re.search("Failed to load resource|net::ERR_", line)]

    def violations(self) -> list[str]:
        """Let axe judge what is to be seen."""
        assert AXE.exists(), "axe is missing: `make test-web` installs it"
        if not self.script("return typeof axe === 'object'"):
            assert AXE.exists(), "axe is missing: `make test-web` installs it"
            # By the debugger's protocol: the page's policy lets no script in.
            self.driver.execute_cdp_cmd("Runtime.evaluate", {"expression": AXE.read_text()})
        found = self.driver.execute_async_script("axe.run(document).then(arguments[0])")
        return [
            f"{one['id']}: {one['help']}: {[node['target'] for node in one['nodes']][:5]}"
            for one in found["violations"]
        ]


@contextmanager
def a_browser() -> Iterator[Browser]:
    """Start chromium. Fails with a word where there is none."""
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, path in programs.items() if path is None]
    assert not missing, f"{', '.join(missing)} is missing: apt install chromium chromium-driver"
    options = ChromeOptions()
    for option in _OPTIONS:
        options.add_argument(option)
    options.binary_location = str(programs["chromium"])
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(programs["chromedriver"]))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


class Stage:
    """A made-up gateway at a control socket in a thread, and a page's process for it."""

    def __init__(self, folder: Path, gateway: MadeUpGateway, *words: object) -> None:
        self.gateway = gateway
        self.web = WebProcess(folder, *words)
        self._path = folder / "control.sock"
        self._loop = asyncio.new_event_loop()
        self._serving: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run)
        self._is_open = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_open.wait(DEADLINE_S)
        self.web.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.web.stop()
        assert self._serving is not None
        self._loop.call_soon_threadsafe(self._serving.cancel)
        self._thread.join(DEADLINE_S)

    def change(self, *views: Any, removed: tuple[str, ...] = ()) -> None:
        self._loop.call_soon_threadsafe(lambda: self.gateway.change(*views, removed=removed))

    def _run(self) -> None:
        self._serving = self._loop.create_task(self._serve())
        self._loop.run_until_complete(asyncio.wait([self._serving]))
        self._loop.close()

    async def _serve(self) -> None:
        async with a_control_server(self._path, self.gateway):
            self._is_open.set()
            await asyncio.Event().wait()
