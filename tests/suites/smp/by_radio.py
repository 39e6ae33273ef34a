"""`make test-smp`: Zephyr and MCUboot in QEMU, by Bluetooth: a GATT service forwards to the board's UART.

The daemon is in this process, with the link, the protocol and bleak's interface as they are; the radio is
bumble's.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lab.radio_gateway import Gateway, gateway_on_a_radio
from lab.smp.bridge import Bridge
from lab.smp.images import application, microbit_flash, shipped
from lab.smp.port import BoardPort
from lab.smp.qemu import MICROBIT, Board

from suites.smp.scene import BOOT_S, LIMIT_S, flash_runs

__all__ = ["gateway_on_a_radio"]

ADDRESS = "C0:FF:EE:00:00:01"


@asynccontextmanager
async def board_in_the_air(gateway: Gateway) -> AsyncIterator[tuple[BoardPort, Bridge]]:
    """Run a board behind a radio, and put it into the gateway's configuration."""
    board = Board(MICROBIT, shipped(), microbit_flash("1.0.0"))
    own = {
        "name": "sensor",
        "app_id": "tag",
        "version": "1.0.0",
        "protocol": "smp",
        "smp": {"boot_s": BOOT_S},
    }
    gateway.devices.append(own | {"link": {"ble": ADDRESS, "pair": False}})
    async with BoardPort(board, gateway.folder / "port") as port:
        await asyncio.sleep(1.0)  # it boots
        bridge = await Bridge(gateway.air, "sensor", ADDRESS, port).open()
        try:
            yield port, bridge
        finally:
            await bridge.close()


async def test_an_update_from_message_to_confirmed_version(gateway: Gateway) -> None:
    new = application("1.0.1")
    async with board_in_the_air(gateway) as (port, bridge):
        async with gateway.running():
            await gateway.publish("1.0.1", new)
            status = await gateway.until("sensor", "succeeded", limit_s=LIMIT_S)
        assert (status["installed_version"], bridge.repeated) == ("1.0.1", 0)
        await flash_runs(port, new)


async def test_a_radio_that_is_lost_in_mid_upload_repeats_nothing(gateway: Gateway) -> None:
    new = application("1.0.1")
    async with board_in_the_air(gateway) as (port, bridge):
        async with gateway.running():
            await gateway.publish("1.0.1", new)
            async with asyncio.timeout(LIMIT_S):
                await bridge.until_taken(len(new) // 2)
            await bridge.lose_radio(4.0)
            await gateway.until("sensor", "succeeded", limit_s=LIMIT_S)
        assert bridge.repeated == 0
        await flash_runs(port, new)
