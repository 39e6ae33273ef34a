"""The page in a real chromium: before a made-up gateway for every state, and before a real one."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab.desk import Desk, desk
from lab.tree import ROOT
from lab.web import PASSWORD, PERSON, MadeUpGateway, a_password_file, a_view
from lab.web_process import WebProcess
from selenium.webdriver.common.keys import Keys

from gatewayd.web.cards import group_of
from suites.web import proxy
from suites.web.browser import Browser, Stage, a_browser

IMAGES = ROOT / "docs" / "images"
IMAGE = random.Random(17).randbytes(60_000)
WAYS = [(1280, False), (1280, True), (390, False), (390, True)]
UNPLUGGED = "/dev/serial/by-id/usb-Silicon_Labs_CP2102N_8c1f20d9-if00-port0"


def link(name: str, health: str = "ok") -> dict[str, Any]:
    return {
        "kind": "uart",
        "address": f"/dev/serial/by-id/{name}",
        "baud": 115200,
        "health": health,
        "reason": None,
    }


def a_barn() -> MadeUpGateway:
    """Something of everything."""
    moving = {
        "job": 12,
        "received_bytes": 94208,
        "image_bytes": 200000,
        "resumes": 1,
        "latest_version": "4.3.2",
    }
    gone = (
        f"{UNPLUGGED} does not exist (check that it is plugged in; `ls -l /dev/serial/by-id` lists the ports)"
    )
    paused = "paused by alice via gatewayd-web on 2026-11-28T12:00:00Z (gatewayctl resume pump-3)"
    views = [
        a_view("pump-1", "transferring", progress=47, bytes_per_s=11300, seconds_left=24, **moving),
        a_view("pump-2", "offered", job=13, latest_version="4.3.2"),
        a_view("pump-3", "idle", paused=True, code="paused", reason=paused),
        a_view(
            "tank-1",
            "unreachable",
            app_id="tank",
            code="link_missing",
            reason=gone,
            link=link("tank", "link_missing"),
        ),
        a_view(
            "valve-1",
            "failed",
            app_id="valve",
            job=9,
            code="reverted",
            reason="valve-1 restarted and runs 2.0.7 again",
            installed_version="2.0.7",
            latest_version="2.1.0",
        ),
        a_view(
            "meter-2",
            "refused",
            app_id="meter",
            code="bad_signature",
            reason="the signature does not fit the content and the key",
        ),
    ]
    last = {
        "job": 4,
        "version": "4.3.1",
        "state": "succeeded",
        "code": None,
        "reason": None,
        "at": "2026-11-28T09:00:00Z",
    }
    views += [
        a_view(f"lamp-{number}", "succeeded", app_id="lamp", last_result=last, code="up_to_date")
        for number in (1, 2, 3)
    ]
    return MadeUpGateway(*views)


@pytest.fixture(name="browser", scope="module")
def _browser() -> Iterator[Browser]:
    with a_browser() as browser:
        yield browser


@pytest.fixture(autouse=True)
def _nothing_in_the_console(browser: Browser) -> Iterator[None]:
    browser.driver.delete_all_cookies()
    browser.complaints()
    yield
    assert browser.complaints() == []


@pytest.fixture(name="barn", scope="module")
def _barn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """It only shows."""
    with Stage(tmp_path_factory.mktemp("barn"), a_barn()) as stage:
        yield stage


@pytest.fixture(name="steered")
def _steered(tmp_path: Path) -> Iterator[Stage]:
    """It wants to know who looks."""
    with Stage(tmp_path, a_barn(), "--password-file", a_password_file(tmp_path)) as stage:
        yield stage


def test_what_is_shown_is_what_the_socket_says(browser: Browser, barn: Stage) -> None:
    browser.open(barn.web.address)
    browser.until(lambda: len(browser.all(".cards .card")) == len(barn.gateway.views), "all devices")
    for name, view in barn.gateway.views.items():
        card = browser.card(name)
        said = card.text
        assert card.get_attribute("data-group") == group_of(view)
        for fact in (view.installed_version, view.reason, view.latest_version if view.job else None):
            assert fact is None or fact in said, said
        assert "Install" not in said, "it only shows"
    assert "47 % · 11.0 KiB/s · 0:24 left" in browser.card("pump-1").text
    assert "Next: plug it in" in browser.card("tank-1").text
    counts = [link.text.split("\n")[0] for link in browser.all(".count")]
    assert counts == ["3", "2", "1", "3"]
    assert browser.text("#person") == "read only"


def test_a_change_is_seen_without_loading_again(browser: Browser, barn: Stage) -> None:
    browser.open(barn.web.address)
    browser.until(lambda: browser.card("lamp-1"), "lamp-1")
    lamp = browser.card("lamp-1")
    barn.change(a_view("lamp-1", "transferring", app_id="lamp", job=20, progress=3, latest_version="4.3.2"))
    browser.until(lambda: lamp.get_attribute("data-group") == "moving", "lamp-1 is under way")
    assert browser.all("#moving .card")[0] == lamp, "the same element"
    assert lamp.find_element("css selector", "progress").get_property("value") == 3
    browser.until(
        lambda: "lamp-1: transferring" in str(browser.one("#news").get_property("textContent")), "it is told"
    )
    barn.change(removed=("lamp-1",))
    browser.until(lambda: len(browser.all(".cards .card")) == len(barn.gateway.views), "lamp-1 is gone")


def test_details_tell_why_what_was_published_is_not_taken(browser: Browser, barn: Stage) -> None:
    browser.open(barn.web.address)
    browser.until(lambda: browser.card("meter-2"), "meter-2")
    browser.card("meter-2").find_elements("css selector", "button")[-1].click()
    browser.until(lambda: "What was published" in browser.text("#details"), "the details")
    said = browser.text("#details")
    for fact in (
        "4.3.2 4.0 KiB, /a/pump/u/4.3",
        "the signature does not fit (bad_signature)",
        "4.3.0 → 4.3.1",
        "/dev/meter-2, 115200 baud",
    ):
        assert fact in said, said
    browser.one("body").send_keys(Keys.ESCAPE)
    browser.until(lambda: not browser.one("#details").is_displayed(), "it is closed")


def test_what_a_device_says_is_never_run(browser: Browser, tmp_path: Path) -> None:
    said = "<script>window.owned=1</script><img src=x onerror='window.owned=1'>\u202e&lt;"
    hostile = a_view(
        "pump-1", "failed", code="device_error", reason=said, installed_version=said[:40], app_id=said[:60]
    )
    with Stage(tmp_path, MadeUpGateway(hostile, a_view("pump-2"))) as stage:
        browser.open(stage.web.address)
        browser.until(lambda: browser.card("pump-1"), "pump-1")
        browser.card("pump-1").find_elements("css selector", "button")[-1].click()
        browser.until(lambda: "Updates so far" in browser.text("#details"), "the details")
        assert browser.script("return window.owned") is None
        assert browser.all("main img, main script, dialog img, dialog script") == []
        reason = browser.script("return document.querySelector('#needs .reason').textContent")
        assert reason == f"{said} (device_error)"


def test_no_script_but_the_pages_own_is_run(browser: Browser, barn: Stage) -> None:
    browser.open(barn.web.address)
    browser.script("""
        const added = document.createElement("script");
        added.textContent = "window.owned = 1";
        document.head.append(added);
    """)
    assert browser.script("return window.owned") is None
    browser.until(
        lambda: any("Content Security Policy" in line for line in browser.complaints()), "the refusal"
    )


def test_two_hundred_devices_scroll_and_are_found(browser: Browser, tmp_path: Path) -> None:
    views = [
        a_view(
            f"lamp-{number}",
            "failed" if number % 50 == 0 else "idle",
            code="stalled" if number % 50 == 0 else None,
        )
        for number in range(200)
    ]
    with Stage(tmp_path, MadeUpGateway(*views)) as stage:
        browser.open(stage.web.address, 390)
        browser.until(lambda: len(browser.all(".card")) == 200, "all of them")
        assert browser.script("return document.documentElement.scrollWidth") <= 390
        browser.script("window.scrollTo(0, document.body.scrollHeight)")
        assert browser.script("return window.scrollY") > 10_000
        shown = """
            const box = document.querySelector("#fine .card:last-child").getBoundingClientRect();
            return box.top < innerHeight && box.bottom > 0;
        """
        browser.until(lambda: browser.script(shown), "the last one is in sight")
        before = browser.script("return window.scrollY")
        stage.change(
            *(a_view(f"lamp-{number}", "idle", installed_version="4.3.9") for number in range(1, 50))
        )
        browser.until(lambda: "4.3.9" in browser.card("lamp-49").text, "the news")
        assert browser.script("return window.scrollY") == before, "nothing jumps"
        browser.script("window.scrollTo(0, 0)")
        browser.one("#search").send_keys("lamp-19")
        browser.until(lambda: len(browser.all(".card")) == 11, "those that were sought")
        assert browser.text("#found") == "11 devices"


def test_a_wrong_password_is_told_and_a_right_one_brings_the_buttons(
    browser: Browser, steered: Stage
) -> None:
    browser.open(steered.web.address)
    browser.sign_in(PERSON, "wrong horse")
    browser.until(lambda: "wrong" in browser.text("#sign-in-error"), "the refusal")
    assert browser.all(".card") == [], "nothing is shown"
    browser.sign_in(PERSON, PASSWORD)
    browser.until(
        lambda: browser.card("pump-2").find_elements("css selector", "[data-op=approve]"), "the buttons"
    )
    assert browser.text("#person") == PERSON
    browser.one("#sign-out").click()
    browser.until(lambda: browser.one("#sign-in-dialog").is_displayed(), "it asks again")


def test_it_is_done_by_keyboard_alone_and_the_focus_is_not_lost(browser: Browser, steered: Stage) -> None:
    browser.open(steered.web.address)
    browser.sign_in(PERSON, PASSWORD)
    browser.until(
        lambda: browser.card("pump-2").find_elements("css selector", "[data-op=approve]"), "the buttons"
    )
    for _ in range(60):
        browser.focused.send_keys(Keys.TAB)
        if browser.focused.get_attribute("aria-label") == "Install: pump-2":
            break
    assert browser.focused.get_attribute("aria-label") == "Install: pump-2"
    browser.focused.send_keys(Keys.ENTER)
    browser.until(lambda: browser.one("#question").is_displayed(), "it asks")
    assert browser.text("#question-title") == "Install 4.3.2?"
    browser.focused.send_keys(Keys.ESCAPE)
    browser.until(lambda: not browser.one("#question").is_displayed(), "no is an answer")
    assert steered.gateway.commands == []
    browser.until(
        lambda: browser.focused.get_attribute("aria-label") == "Install: pump-2", "the focus is back"
    )
    browser.focused.send_keys(Keys.ENTER)
    browser.until(lambda: browser.one("#question").is_displayed(), "it asks again")
    browser.focused.send_keys(Keys.TAB, Keys.ENTER)
    browser.until(lambda: steered.gateway.commands, "the daemon is told")
    steered.change(a_view("pump-2", "transferring", job=13, progress=1, latest_version="4.3.2"))
    browser.until(lambda: browser.card("pump-2").get_attribute("data-group") == "moving", "it begins")
    assert "pump-2" in (browser.focused.get_attribute("aria-label") or ""), "not at the page's beginning"


@pytest.mark.parametrize(("width", "dark"), WAYS)
def test_axe_finds_nothing(browser: Browser, steered: Stage, width: int, *, dark: bool) -> None:
    browser.open(steered.web.address, width, dark=dark)
    browser.until(lambda: browser.one("#sign-in-dialog").is_displayed(), "it asks who this is")
    assert browser.violations() == []
    browser.sign_in(PERSON, PASSWORD)
    browser.until(
        lambda: browser.card("pump-2").find_elements("css selector", "[data-op=approve]"), "the buttons"
    )
    assert browser.violations() == []
    browser.card("meter-2").find_elements("css selector", "button")[-1].click()
    browser.until(lambda: "Updates so far" in browser.text("#details"), "the details")
    assert browser.violations() == []
    browser.one("#details-close").click()
    browser.press("pump-2", "cancel")
    browser.until(lambda: browser.one("#question").is_displayed(), "it asks")
    assert browser.violations() == []


@pytest.mark.parametrize(("width", "dark"), WAYS)
def test_it_fits_and_has_its_picture(browser: Browser, steered: Stage, width: int, *, dark: bool) -> None:
    """GATEWAYD_PICTURES=1 puts it into docs/images."""
    browser.open(steered.web.address, width, dark=dark, height=1120 if width > 400 else 1500)
    browser.sign_in(PERSON, PASSWORD)
    browser.until(
        lambda: browser.card("pump-2").find_elements("css selector", "[data-op=approve]"), "the buttons"
    )
    assert browser.script("return document.documentElement.scrollWidth") <= width
    if os.environ.get("GATEWAYD_PICTURES"):
        IMAGES.mkdir(exist_ok=True)
        browser.driver.save_screenshot(str(IMAGES / f"page-{width}-{'dark' if dark else 'light'}.png"))


def test_it_works_below_another_path_and_the_proxy_names_the_person(browser: Browser, tmp_path: Path) -> None:
    words = ("--password-file", a_password_file(tmp_path), "--allow-host", proxy.NAME)
    with (
        Stage(tmp_path, a_barn(), *words, "--user-header", proxy.HEADER) as stage,
        proxy.Proxy(stage.web.address) as ingress,
    ):
        browser.open(ingress.address)
        browser.sign_in(PERSON, PASSWORD)
        browser.press("tank-1", "retry")
        browser.until(lambda: stage.gateway.commands, "the daemon is told")
        assert getattr(stage.gateway.commands[0], "on_behalf_of", "") == f"{PERSON} ({proxy.PERSON})"
        stage.change(a_view("tank-1", "idle", app_id="tank"))
        browser.until(lambda: browser.card("tank-1").get_attribute("data-group") == "fine", "live, too")
        browser.driver.get("about:blank")


# -- with a real gateway


@pytest.fixture(name="real", scope="module")
def _real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("web")) as whole:
        # Six seconds: a busy machine draws the bar several times.
        valve = whole.device("valve-1", rate=10_000).config(install="manual", link={"baud": 115200})
        whole.configure(valve, whole.device("pump-1").config())
        whole.start()
        whole.until_state("valve-1", "idle")
        yield whole


@pytest.fixture(name="web")
def _web(real: Desk, tmp_path: Path) -> Iterator[WebProcess]:
    web = WebProcess(real.folder, "--password-file", a_password_file(tmp_path))
    web.start()
    yield web
    assert web.stop() == 0


def test_install_is_pressed_and_the_device_runs_the_new_version(
    browser: Browser, real: Desk, web: WebProcess
) -> None:
    real.publish("valve", "4.3.2", IMAGE)
    real.until_state("valve-1", "offered")
    browser.open(web.address)
    browser.sign_in(PERSON, PASSWORD)
    browser.press("valve-1", "approve")
    browser.until(lambda: browser.one("#question").is_displayed(), "it asks")
    assert browser.text("#question-text").startswith("valve-1 will be updated from 4.3.1 to 4.3.2")
    browser.one("#question-yes").click()
    seen = set()

    def is_done() -> bool:
        card = browser.card("valve-1")
        seen.add(card.find_element("css selector", "progress").get_property("value"))
        return card.get_attribute("data-group") == "fine" and "4.3.2" in card.text

    browser.until(is_done, "it is updated")
    assert len(seen) > 3, "the bar moved"
    assert real.devices["valve-1"].active == IMAGE
    assert "approved" in real.log()
    assert f"{PERSON} via " in real.log(), "and who pressed it"


def test_the_daemon_stops_and_comes_back(browser: Browser, real: Desk, web: WebProcess) -> None:
    browser.open(web.address)
    browser.sign_in(PERSON, PASSWORD)
    browser.until(
        lambda: browser.card("pump-1").find_elements("css selector", "button[data-op]"), "it may be steered"
    )
    real.stop()
    browser.until(lambda: "does not answer" in browser.text("#away"), "it says so")
    assert browser.text("#connection") == "gatewayd is not running"
    assert browser.card("pump-1").find_elements("css selector", "button[data-op]") == [], "nothing to press"
    real.start()
    browser.until(lambda: not browser.one("#away").is_displayed(), "it is back")
    browser.until(
        lambda: browser.card("pump-1").find_elements("css selector", "button[data-op]"), "it may be steered"
    )


def test_the_pages_process_stops_and_comes_back(browser: Browser, real: Desk) -> None:
    web = WebProcess(real.folder)
    browser.open(web.start())
    browser.until(lambda: browser.card("pump-1"), "pump-1")
    assert web.stop() == 0
    browser.until(lambda: "lost its connection" in browser.text("#away"), "it says so")
    web.start()
    browser.until(lambda: browser.text("#connection") == "live", "it found its way back by itself")
    assert web.stop() == 0
