"""The peer's client: smpclient as its users use it. Importing this fails where smpclient is not installed."""

import asyncio
import logging
from pathlib import Path

from smpclient import SMPClient
from smpclient.exceptions import SMPBadSequence
from smpclient.requests.os_management import EchoWrite
from smpclient.transport.serial import SMPSerialTransport

_BOOT_ROUNDS = 30
_ANSWER_S = 1.0

# It logs each request that times out with all its bytes; the table says how many uploads failed.
logging.getLogger("smpclient").setLevel(logging.CRITICAL)


async def upload(port: Path, image: bytes) -> float:
    """Upload once the server answers; returns the seconds it took. Raises TimeoutError when it is silent."""
    client = SMPClient(SMPSerialTransport(), str(port))
    await client.connect()
    try:
        await _until_answering(client)
        clock = asyncio.get_running_loop().time
        received, began = 0, clock()
        async for offset in client.upload(image):
            received = offset
        ended = clock()
        assert received == len(image), f"the server has {received} of {len(image)} bytes"
        return ended - began
    finally:
        await client.disconnect()


async def _until_answering(client: SMPClient) -> None:
    for _ in range(_BOOT_ROUNDS):
        try:
            await client.request(EchoWrite(d="ready?"), timeout_s=_ANSWER_S)
        except (TimeoutError, SMPBadSequence):
            continue
        return
    raise TimeoutError("the server in QEMU does not answer")
