"""The least that asyncio can do: a loop that answers each acknowledgement with a chunk, and nothing else.

A yardstick for the daemon's processor time. The line and the device are the same; so are the frames, but they
are ready before it begins, nothing that arrives is looked at but for the end of a frame, and there are no
timers, no losses and no bounds. It reads when there is something to read: once for each acknowledgement.
"""

import asyncio
import os
import random
import time
import tty
from hashlib import sha256

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.framing import StreamDeframer, encode_stream
from gatewayd.protocol.rcp.gateway import RcpGateway
from gatewayd.protocol.rcp.tlv_frames import Offer
from gatewayd.protocol.session import Event, Identified, Image, TransferStarted
from suites.bench.transfer import BITS_PER_BYTE, device_on_a_line, until_there

CHUNK = 1024
_IN_FLIGHT = 3  # frames: they fill the line, and the device's window holds one more
_MOST_READ = 4096
_LONGEST_FRAME = 65536
_PATIENCE_S = 5.0
_LIMIT_S = 120.0


async def bare_cpu_s(rate: int, latency_ms: int, size: int) -> float:
    """Return the processor time from the first chunk sent to the last one acknowledged."""
    with device_on_a_line("c", rate, latency_ms=latency_ms) as device:
        await until_there(device.port)
        port = os.open(device.port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            tty.setraw(port)
            content = random.Random(1).randbytes(size)
            async with asyncio.timeout(_LIMIT_S):
                number = await _offer(port, rate, content)
                return await _send(port, number, content)
        finally:
            os.close(port)


async def _offer(port: int, rate: int, content: bytes) -> int:
    """Lead the device to where it wants bytes; return the session's number."""
    clock = asyncio.get_running_loop().time
    session = RcpGateway("bench", base_baud=rate * BITS_PER_BYTE, random=random.Random(1))
    session.identify(clock(), _PATIENCE_S)
    await _until(port, session, Identified)
    session.transfer(Image(content, sha256(content).digest(), "4.3.2"), clock())
    offer = session.data_to_send(clock())
    os.write(port, offer)
    await _until(port, session, TransferStarted)
    (found,) = StreamDeframer(_LONGEST_FRAME).feed(offer)
    frame = frames.decode(found) if isinstance(found, bytes) else None
    assert isinstance(frame, Offer), frame
    return frame.session


async def _until(port: int, session: RcpGateway, wanted: type[Event]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        if data := session.data_to_send(loop.time()):
            os.write(port, data)
        await asyncio.sleep(0.01)
        try:
            session.receive_data(os.read(port, _MOST_READ), loop.time())
        except BlockingIOError:
            continue
        while (event := session.next_event()) is not None:
            if isinstance(event, wanted):
                return


async def _send(port: int, number: int, content: bytes) -> float:
    chunks = [
        encode_stream(frames.Data(number, at, content[at : at + CHUNK]).to_bytes())
        for at in range(0, len(content), CHUNK)
    ]
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left, acknowledged = iter(chunks), 0

    def answer() -> None:
        nonlocal acknowledged
        for _ in range(os.read(port, _MOST_READ).count(0) // 2):  # two delimiters each
            acknowledged += 1
            if (chunk := next(left, None)) is not None:
                os.write(port, chunk)
        if acknowledged >= len(chunks) and not done.done():
            done.set_result(None)

    before = time.thread_time()
    for _ in range(_IN_FLIGHT):
        os.write(port, next(left))
    loop.add_reader(port, answer)
    await done
    loop.remove_reader(port)
    return time.thread_time() - before
