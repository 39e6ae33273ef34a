"""`make pictures-ha`: what docs/home-assistant.md shows, pressed and seen in a real chromium."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab.desk import Desk
from lab.farm import image_of
from lab.tree import ROOT

from suites.home_assistant.house import HomeAssistant, a_house
from suites.web.browser import Browser, a_browser

IMAGES = ROOT / "docs" / "images"
UPDATE = "update.pump_1_firmware"
# On its way for a minute: time enough for a picture.
IMAGE, RATE = image_of(19, 300_000), 5_000
# Its elements hide theirs, level below level.
_DEEP = """
const found = [];
const look = (root) => {
  for (const one of root.querySelectorAll("*")) {
    found.push(one);
    if (one.shadowRoot) look(one.shadowRoot);
  }
};
look(document);
"""
_TEXT = (
    _DEEP
    + """
return found.filter((one) => !["STYLE", "SCRIPT"].includes(one.tagName) && one.checkVisibility())
  .flatMap((one) => [...one.childNodes]).filter((one) => one.nodeType === 3)
  .map((one) => one.textContent.trim()).filter((text) => text).join("\\n");
"""
)
_PRESS = (
    _DEEP
    + """
const button = found.find((one) => one.tagName === "HA-BUTTON" && one.textContent.trim() === arguments[0]);
if (!button || !button.checkVisibility() || button.disabled) return false;
button.click();
return true;
"""
)


@pytest.fixture(name="home")
def _home(tmp_path: Path) -> Iterator[HomeAssistant]:
    with a_house(tmp_path) as home:
        yield home


@pytest.fixture(name="browser")
def _browser() -> Iterator[Browser]:
    with a_browser() as browser:
        yield browser


def sign_in(browser: Browser, home: HomeAssistant) -> None:
    """Leave in the browser what it would have after a person signed in."""
    tokens: dict[str, Any] = {
        "access_token": home.token,
        "token_type": "Bearer",
        "refresh_token": "",
        "expires_in": 1800,
        "expires": 4102444800000,  # in another century
        "hassUrl": home.address,
        "clientId": f"{home.address}/",
    }
    browser.driver.get(f"{home.address}/manifest.json")
    browser.script("localStorage.setItem('hassTokens', arguments[0])", json.dumps(tokens))


def text(browser: Browser) -> str:
    found: str = browser.script(_TEXT)
    return found


def test_the_dialog_while_it_installs_and_the_page_of_a_device(
    home: HomeAssistant, browser: Browser, tmp_path: Path
) -> None:
    barn = Desk(tmp_path, home.broker)
    barn.gateway.config["gateway"]["id"] = "barn-pi"
    barn.gateway.config["mqtt"]["home_assistant"] = {}
    try:
        pump = barn.device("pump-1", hardware_id="pump-rev-b", rate=RATE)
        barn.configure(pump.config(install="manual", hardware_id="pump-rev-b"))
        barn.start()
        barn.publish("pump", "4.3.2", IMAGE)
        home.until(lambda: home.state(UPDATE) == "on", "it is on offer")
        sign_in(browser, home)
        browser.look(760, height=540)
        browser.driver.get(f"{home.address}/?more-info-entity-id={UPDATE}")
        browser.until(lambda: browser.script(_PRESS, "Update"), "the button")
        browser.until(lambda: re.search(r"Installing \(4\d%\)", text(browser)), "it is under way")
        browser.driver.save_screenshot(str(IMAGES / "home-assistant-installing.png"))
        device = home.device("gatewayd/barn-pi/pump-1")["id"]
        browser.look(1200, height=580)
        browser.driver.get(f"{home.address}/config/devices/device/{device}")
        shown = ("Firmware: 4.3.1", "Hardware: pump-rev-b", "gatewayd barn-pi", "transferring", "Installing")
        browser.until(lambda: all(one in text(browser) for one in shown), "the device's page")
        browser.driver.save_screenshot(str(IMAGES / "home-assistant-device.png"))
    finally:
        barn.leave()
