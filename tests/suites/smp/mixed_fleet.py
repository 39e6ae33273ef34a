"""`make test-smp`: sixteen devices at once on one gateway, half of them boards with SMP, half with RCP."""

from contextlib import AsyncExitStack
from pathlib import Path

from lab.farm import Farm, image_of
from lab.fixtures import farm_in_a_folder
from lab.smp.images import application

from suites.smp.scene import board_at, publish, succeeded

__all__ = ["farm_in_a_folder"]

HALF = 8
BOOT_S = 10  # what comes while eight of them boot at once would wedge the emulated UART
LIMIT_S = 400.0


async def test_sixteen_devices_with_two_protocols(farm: Farm, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        for number in range(HALF):
            await stack.enter_async_context(board_at(farm, f"sensor-{number}", smp={"boot_s": BOOT_S}))
            pump = farm.device(f"pump-{number}", rate=11_520, latency_ms=5)
            farm.gateway.config["devices"].append(pump.config())
        farm.gateway.start()
        for number in range(HALF):
            await farm.gateway.until_state(f"sensor-{number}", "idle")
            await farm.gateway.until_state(f"pump-{number}", "idle")
        publish(farm, tmp_path, application("1.0.1"), "1.0.1")
        farm.gateway.publish(farm.gateway.pack(image_of(1, 50_000)), "4.3.2")
        for number in range(HALF):
            await succeeded(farm, "1.0.1", f"sensor-{number}", LIMIT_S)
            await succeeded(farm, "4.3.2", f"pump-{number}", LIMIT_S)
        assert {staged["repeated"] for staged in farm.gateway.log_events("staged")} == {0}
