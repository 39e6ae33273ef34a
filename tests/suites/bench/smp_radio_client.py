"""The peer's client by Bluetooth: smpclient on bleak, on a virtual radio. Importing this needs smpclient."""

import asyncio
import logging
from typing import Any

import bleak
from lab.bumble_radio import BumbleBackend
from smpclient import SMPClient
from smpclient.transport import ble

logging.getLogger("smpclient").setLevel(logging.CRITICAL)  # it logs that it disconnected


async def upload(adapter: BumbleBackend, address: str, image: bytes) -> float:
    """Upload; returns the seconds it took. Scanner and client are smpclient's own, on our radio."""
    backend = adapter.backend

    class Scanner(bleak.BleakScanner):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings, backend=backend.scanner)

    class Client(bleak.BleakClient):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings, backend=backend.client)

    module: Any = ble
    before = module.BleakScanner, module.BleakClient
    module.BleakScanner, module.BleakClient = Scanner, Client
    try:
        client = SMPClient(ble.SMPBLETransport(), address)
        await client.connect(10.0)
    finally:
        module.BleakScanner, module.BleakClient = before
    clock = asyncio.get_running_loop().time
    received, began = 0, clock()
    async for offset in client.upload(image):
        received = offset
    ended = clock()
    assert received == len(image), f"the server has {received} of {len(image)} bytes"
    await client.disconnect()
    return ended - began
