"""The installed package under systemd: an FTDI adapter is plugged in, pulled, and plugged in again.

The board at the end of its line is the compiled C receiver.
"""

import json
import random
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import yaml
from lab.brokers import until
from lab.farm import Farm, farm

from suites.vm.guest.usb_port import BY_ID, PORTS, UsbPort

pytestmark = pytest.mark.asyncio(loop_scope="module")

WINDOW, ERASE_BLOCK = 4096, 4096
# On its way for ten seconds: long enough to be pulled in the middle of it, on a busy machine, too.
IMAGE = random.Random(6).randbytes(120_000)
CONFIG = Path("/etc/gatewayd/config.yaml")
# At 115200 baud.
BYTES_A_SECOND = 11_520
LIMIT_S = 240.0


@pytest_asyncio.fixture(name="barn", scope="module", loop_scope="module")
async def _barn() -> AsyncIterator[Farm]:
    """A configured gateway that runs as its package wants it, and a board whose line ends at the USB port."""
    async with farm(Path("/run/barn")) as barn:
        board = barn.device("pump-1", slot_address=0x2000, rate=BYTES_A_SECOND)
        await until(board.port.exists, "the board")
        relay = ["socat", str(PORTS / "board"), str(board.port)]
        with subprocess.Popen(relay) as line:  # noqa: ASYNC220 - it is brief
            config = barn.gateway.config
            del config["keys"], config["gateway"]["state_dir"], config["gateway"]["control_socket"]
            config["devices"] = [board.config(payload="standard", link={"uart": str(BY_ID)})]
            del config["devices"][0]["keys"]
            (barn.folder / "gatewayd.log").write_text("the journal has it: see the console")
            CONFIG.write_text(yaml.safe_dump(config))  # noqa: ASYNC240 - it is brief
            yield barn
            line.terminate()


@pytest.fixture(name="usb", scope="module")
def _usb() -> UsbPort:
    return UsbPort()


async def test_the_package_is_installed_and_ready_without_the_adapter(barn: Farm) -> None:
    _run("systemctl", "restart", "gatewayd")
    assert _run("systemctl", "is-active", "gatewayd") == "active"
    await _until_code(barn, "link_missing")


async def test_plugged_in_it_is_found_by_its_id(barn: Farm, usb: UsbPort) -> None:
    usb.plug()
    await until(BY_ID.exists, str(BY_ID))
    await _until_code(barn, "no_release")
    about = _run("udevadm", "info", "--query=property", str(BY_ID)).splitlines()
    assert {"ID_VENDOR_ID=0403", "ID_USB_DRIVER=ftdi_sio", "ID_MM_DEVICE_IGNORE=1"} <= set(about)


async def test_pulled_in_mid_transfer_and_plugged_in_again_it_goes_on(barn: Farm, usb: UsbPort) -> None:
    gateway = barn.gateway

    def progress() -> int:
        return int(gateway.status["pump-1"]["progress"] or 0)

    await gateway.send("/a/pump/u/4.3", b"\2" + IMAGE)
    await gateway.until(lambda: 30 < progress() < 80, "mid-transfer", LIMIT_S)
    usb.unplug()
    await _until_code(barn, "link_missing")
    arrived = len(IMAGE) * progress() // 100
    assert not BY_ID.exists()
    usb.plug()
    await gateway.until(lambda: gateway.status["pump-1"]["state"] == "succeeded", "succeeded", LIMIT_S)
    assert barn.devices[0].active == IMAGE
    first, *_, last = _offsets()
    assert first == 0
    assert last >= arrived - WINDOW - ERASE_BLOCK


async def _until_code(barn: Farm, code: str) -> None:
    status = barn.gateway.status
    await barn.gateway.until(lambda: status.get("pump-1", {}).get("code") == code, code, LIMIT_S)


def _offsets() -> list[int]:
    """Where its transfers began, as the journal has it."""
    lines = _run("journalctl", "--unit=gatewayd", "--output=json", "DEVICE=pump-1").splitlines()
    return [int(entry["OFFSET"]) for entry in map(json.loads, lines) if "OFFSET" in entry]


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
