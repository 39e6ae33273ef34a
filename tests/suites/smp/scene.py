"""What the suites on real servers share: a board in the gateway's configuration, a release, its success."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from lab.farm import Farm
from lab.smp.images import microbit_flash, shipped
from lab.smp.port import BoardPort
from lab.smp.qemu import MICROBIT, Board

from gatewayd.protocol.smp.mcuboot import read_image
from gatewayd.simulator.smp.slots import listed_image

SLOT_0 = 0x8000
BOOT_S = 2
LIMIT_S = 120.0


@asynccontextmanager
async def board_at(
    farm: Farm, name: str = "sensor-1", flash: bytes = b"", *, board: Board | None = None, **settings: Any
) -> AsyncIterator[BoardPort]:
    """Run a board behind a port, a microbit by default, and put it into the gateway's configuration."""
    board = board or Board(MICROBIT, shipped(), flash or microbit_flash("1.0.0"))
    port = farm.folder / f"port-{name}"
    farm.gateway.config["devices"].append(
        {
            "name": name,
            "app_id": "sensor",
            "version": "1.0.0",
            "protocol": "smp",
            "smp": {"boot_s": BOOT_S},
            "payload": "standard",
            "link": {"uart": str(port)},
            **settings,
        }
    )
    async with BoardPort(board, port) as there:
        await asyncio.sleep(1.0)  # it boots
        yield there


def publish(farm: Farm, folder: Path, content: bytes, version: str) -> None:
    file = folder / f"{version}.bin"
    file.write_bytes(content)
    farm.gateway.publish(file, version, "sensor")


async def succeeded(
    farm: Farm, version: str, name: str = "sensor-1", limit_s: float = LIMIT_S
) -> dict[str, Any]:
    await farm.gateway.until(
        lambda: (
            (status := farm.gateway.status.get(name, {})).get("state") in ("succeeded", "failed")
            and status.get("latest_version") == version
        ),
        f"{name} at {version}",
        limit_s,
    )
    status = farm.gateway.status[name]
    assert (status["state"], status["installed_version"]) == ("succeeded", version), status
    return status


async def flash_runs(port: BoardPort, content: bytes) -> None:
    """The board runs an image, and still does after its power was cut: it is confirmed."""
    for _ in range(2):
        await port.cut_power()
        await asyncio.sleep(1.0)
    await port.board.cut_power()
    found = listed_image(port.board.flash[SLOT_0 : SLOT_0 + len(content)])
    assert found is not None
    assert found.running_id == read_image(content).running_id
