"""The largest message that may be allowed, through mosquitto: `make large`. It takes 2 GiB of memory."""

import asyncio
import hashlib
import sys
import time

import pytest
from lab.farm import Farm, image_of
from lab.jobs import message

from suites.bench.daemons import memory_mib

MIB = 1024 * 1024


async def test_a_message_of_255_mib_passes_when_allowed(
    farm: Farm, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway = farm.gateway
    device = farm.device("pump-1")
    gateway.config["devices"] = [device.config(payload="standard", keys=None)]
    gateway.config["mqtt"]["max_message_mib"] = 255
    gateway.start()
    await gateway.until(lambda: gateway.gateway_status == "online", "online")
    idle_mib = memory_mib(gateway, "VmHWM")
    file = farm.folder / "largest.bin"
    file.write_bytes(image_of(1, 255 * MIB - 1))  # and a byte of patch version
    begun = time.monotonic()
    await asyncio.to_thread(
        gateway.ctl, "publish", "--config", "config.yaml", "--app", "pump", "--version", "4.3.2", file
    )
    published_s = time.monotonic() - begun
    await gateway.until(lambda: gateway.log_events("release stored"), "the message")
    stored_s = time.monotonic() - begun
    expected = hashlib.sha256(message(2, file.read_bytes())).hexdigest()
    assert (farm.folder / "state" / "spool" / expected).stat().st_size == 255 * MIB
    await gateway.until_state("pump-1", "refused", code="too_large")  # the device has no slot of that size
    peak = memory_mib(gateway, "VmHWM")
    figures = f"published {published_s:.1f} s, stored {stored_s:.1f} s, RSS {idle_mib:.0f} to {peak:.0f} MiB"
    with capsys.disabled():
        sys.stdout.write(f"\n255 MiB: {figures}\n")
    assert peak - idle_mib < 4 * 255
