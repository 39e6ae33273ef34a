"""`make test-smp`: the board with memory for two images, a bootloader without a swap, and serial recovery.

Its MCUboot loads the newer of two images into RAM. So there is no trial, and its server says so when it is
asked for one. Its console is on another UART; the one that we see speaks SMP in either framing.
"""

from pathlib import Path
from typing import Any

import pytest
from lab.farm import Farm
from lab.fixtures import farm_in_a_folder
from lab.smp.images import shipped
from lab.smp.qemu import MPS2_SLOT_SIZE, Board, mps2

from suites.bench.smp_server import verified
from suites.bench.smp_speed import another_version
from suites.smp.scene import BOOT_S, board_at, publish, succeeded

__all__ = ["farm_in_a_folder"]

RELEASE = "zephyr_f33aa2bc4a43_smp_server_27c54835_mps2_an385_serial_recovery"
NAMES = {"console": RELEASE, "raw": f"{RELEASE}_raw"}
VERSION = "0.0.1"
RECOVERY_LIMIT_S = 400.0  # the emulated flash stalls serial recovery now and then


def application(framing: str) -> bytes:
    return verified(shipped(), f"{NAMES[framing]}.signed.bin")


def newer(framing: str) -> bytes:
    return another_version(application(framing), (0, 0, 1))


def board(framing: str, *, has_application: bool = True) -> Board:
    name = f"{NAMES[framing]}.hex"
    verified(shipped(), name)
    content = application(framing) if has_application else b""
    return Board(mps2(name), shipped(), content.ljust(2 * MPS2_SLOT_SIZE, b"\xff"))


@pytest.mark.parametrize("framing", NAMES)
async def test_an_update_without_a_trial_wants_permission(farm: Farm, tmp_path: Path, framing: str) -> None:
    settings: dict[str, Any] = {"version": "0.0.0", "smp": {"boot_s": BOOT_S, "framing": framing}}
    async with board_at(farm, board=board(framing), **settings):
        farm.gateway.start()
        await farm.gateway.until_state("sensor-1", "idle", installed_version="0.0.0")
        publish(farm, tmp_path, newer(framing), VERSION)
        await farm.gateway.until_state("sensor-1", "failed", code="no_trial_boot")
        farm.gateway.stop()
        farm.gateway.config["devices"][0]["allow_no_trial"] = True
        await farm.gateway.until(lambda: farm.gateway.gateway_status == "offline", "the daemon's end")
        farm.gateway.start()
        await farm.gateway.until(lambda: farm.gateway.gateway_status == "online", "the daemon")
        farm.gateway.ctl("retry", "--socket", "control.sock", "sensor-1")
        await farm.gateway.until_state("sensor-1", "succeeded", installed_version=VERSION)


@pytest.mark.parametrize("framing", NAMES)
@pytest.mark.parametrize("allowed", [False, True], ids=["named", "restored"])
async def test_a_board_without_an_application(
    farm: Farm, tmp_path: Path, framing: str, *, allowed: bool
) -> None:
    """Only serial recovery answers; it is named, and used where that is allowed, over a cut line, too."""
    smp = {"boot_s": BOOT_S, "framing": framing, "recovery": allowed}
    empty = board(framing, has_application=False)
    async with board_at(farm, board=empty, version="0.0.0", smp=smp) as port:
        farm.gateway.start()
        publish(farm, tmp_path, newer(framing), VERSION)
        if allowed:
            await port.until_sent(20_000)
            await port.cut_line(4.0)
            await succeeded(farm, VERSION, limit_s=RECOVERY_LIMIT_S)
            assert [staged["repeated"] for staged in farm.gateway.log_events("staged")] == [0]
        else:
            await farm.gateway.until(
                lambda: farm.gateway.status.get("sensor-1", {}).get("code") == "in_recovery", "in_recovery"
            )
