"""The daemon under a service manager, which is a socket here."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.desk import Desk
from lab.farm import image_of
from lab.service_manager import Manager

pytestmark = pytest.mark.daemon

# A loop that a defect holds up for ever.
HANGS = """
import time
import gatewayd.systemd.status_line as told
line, lines = told.status_line, []
def a_line_that_never_comes(*words, **more):
    lines.append(0)
    if len(lines) > 3:
        open("it hangs", "w").close()
        time.sleep(3600)
    return line(*words, **more)
told.status_line = a_line_that_never_comes
"""
FED = "WATCHDOG="


@pytest.fixture(name="manager")
def _manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    with Manager(str(tmp_path / "notify")) as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", manager.address)
        yield manager


@pytest.fixture(name="desk")
def _desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.end()


def until_status(manager: Manager, status: str) -> None:
    while manager.heard(FED) != f"STATUS={status}":
        pass


def status_after_reload(manager: Manager) -> str:
    """Hear what systemd waits for, also when the configuration was refused; return the last status in it."""
    assert manager.heard().startswith("RELOADING=1\nMONOTONIC_USEC=")
    statuses = []
    while (said := manager.heard()) != "READY=1":
        statuses.append(said)
    return statuses[-1]


def test_it_says_when_it_is_ready_reloads_and_stops(desk: Desk, manager: Manager) -> None:
    desk.start()
    assert [manager.heard(), manager.heard()] == ["STATUS=no devices configured", "READY=1"]
    with desk.gateway.config_file.open("a") as file:
        file.write("foo: 1\n")
    assert desk.gateway.process is not None
    desk.gateway.process.send_signal(signal.SIGHUP)
    refused = status_after_reload(manager)
    assert refused.startswith("STATUS=the new configuration is refused, the old one is in force: ")
    assert f"{desk.gateway.config_file}:" in refused
    desk.device("pump-1")
    desk.configure(desk.devices["pump-1"].config())
    assert "foo" not in desk.good("reload")
    assert status_after_reload(manager).startswith("STATUS=1 device, ")
    until_status(manager, "1 device, broker connected")
    desk.stop()
    assert manager.heard("STATUS") == "STOPPING=1"


def test_neither_broker_nor_device_is_waited_for(desk: Desk, manager: Manager) -> None:
    desk.broker.stop()
    port = {"uart": "/nowhere/port"}
    desk.configure(
        {"name": "pump-1", "app_id": "pump", "version": "4.3.1", "payload": "standard", "link": port}
    )
    desk.start()
    assert manager.heard() == "STATUS=1 device, broker not connected"
    assert manager.heard() == "READY=1"
    until_status(manager, "1 device, 1 unreachable, broker not connected")


def test_a_transfer_is_in_the_status(desk: Desk, manager: Manager) -> None:
    desk.configure(desk.device("pump-1", rate=11520).config())
    desk.start()
    desk.publish("pump", "4.3.2", image_of(5, 100_000))
    seen: set[str] = set()
    while (text := manager.heard(FED)) != "STATUS=1 device, broker connected" or not seen:
        seen |= {text} if text.startswith("STATUS=1 device, 1 updating (pump-1 ") else set()
    assert len(seen) > 3


def test_a_loop_that_hangs_leaves_its_stack(
    desk: Desk, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "600000")
    desk.gateway.preset = HANGS
    desk.gateway.start()
    assert manager.heard("STATUS", "READY") == "WATCHDOG=1"
    desk.until((desk.folder / "it hangs").exists)
    assert desk.gateway.stop(signal.SIGABRT) == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in desk.log()
    assert "in a_line_that_never_comes" in desk.log()
