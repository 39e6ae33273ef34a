"""One RCP transfer as the daemon makes it (UartLink, Pump, RcpGateway) to a device's process."""

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from hashlib import sha256
from pathlib import Path

from lab import operations
from lab.farm import VirtualDevice
from lab.operations import identify

from gatewayd.delivery.pump import Pump
from gatewayd.link.uart import UartLink
from gatewayd.protocol.rcp.gateway import RcpGateway
from gatewayd.protocol.session import Event, Image

BITS_PER_BYTE = 10
SLOW, FAST = 11520, 92160
_POLL_S = 0.01
_APPEAR_LIMIT_S = 10.0


@contextmanager
def device_on_a_line(receiver: str, rate: int, **flags: object) -> Iterator[VirtualDevice]:
    """Run an empty device on a line of the given speed, in bytes per second."""
    with tempfile.TemporaryDirectory(prefix="gatewayd-bench-") as folder:
        baud = rate * BITS_PER_BYTE
        device = VirtualDevice(
            Path(folder), "bench", receiver, rate=rate, baud=baud, quiet=True, **flags
        ).start()
        try:
            yield device
        finally:
            device.stop()


@asynccontextmanager
async def conversation(
    port: Path, rate: int, *, chunk: int = 1024, seed: int, on_notice: Callable[[Event], None]
) -> AsyncIterator[tuple[Pump, RcpGateway]]:
    """Open the port and identify who is there."""
    await until_there(port)
    baud = rate * BITS_PER_BYTE
    session = RcpGateway("bench", base_baud=baud, chunk=chunk, random=random.Random(seed))
    clock = asyncio.get_running_loop().time
    async with Pump(UartLink(str(port), baud=baud), session, clock=clock, on_notice=on_notice) as talk:
        await identify(talk)
        yield talk, session


async def bring(talk: Pump, content: bytes) -> None:
    """Transfer an image until it is staged. Raises LinkLost."""
    await operations.bring(talk, Image(content, sha256(content).digest(), "4.3.2"))


async def until_there(path: Path) -> None:
    """Wait for what another process makes. Raises TimeoutError when it does not."""
    async with asyncio.timeout(_APPEAR_LIMIT_S):
        while not path.exists():  # noqa: ASYNC110, ASYNC240 - another process makes it; a look blocks nobody
            await asyncio.sleep(_POLL_S)
