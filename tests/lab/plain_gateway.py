"""A gateway that is no more than straight-forward: enough to try a virtual device through a real port."""

import asyncio
import hashlib
from typing import TypeVar

from gatewayd.link.base import Link
from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.framing import StreamDeframer, encode_stream
from gatewayd.protocol.rcp.info import RcpInfo
from gatewayd.protocol.rcp.tlv_frames import Confirm, Confirmed, Hello, Info, Offer

CHUNK = 1024
REPEAT_S = 0.3
PATIENCE_S = 120

Answer = TypeVar("Answer")


class PlainGateway:
    """Speaks RCP over a link: repeats requests, fills the window, goes back on NAK, probes in a silence."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.session = 0
        self.image_bytes_sent = 0
        self._deframer = StreamDeframer(512)
        self._frames: list[frames.Frame] = []

    async def hello(self) -> RcpInfo:
        return (await self.ask(Hello(7, "plain"), Info)).device

    async def ask(self, frame: frames.Frame, expected: type[Answer]) -> Answer:
        """Repeat a request until its answer comes."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                await self.link.send(encode_stream(frame.to_bytes()))
                while (answer := await self._next_frame()) is not None:
                    if isinstance(answer, expected):
                        return answer

    async def offer(self, image: bytes, version: str) -> frames.Accept:
        self.session += 1
        offer = Offer(self.session, hashlib.sha256(image).digest(), len(image), version)
        return await self.ask(offer, frames.Accept)

    async def send_image(self, image: bytes, accept: frames.Accept, stop_after: int | None = None) -> None:
        """Send from where the device wants it, until it has all, or `stop_after` bytes of it."""
        received, credit, sent = accept.offset, accept.credit, accept.offset
        enough = len(image) if stop_after is None else stop_after
        while received < enough:
            while sent < len(image) and (chunk := image[sent : sent + CHUNK]) and sent + len(chunk) <= credit:
                await self.link.send(encode_stream(frames.Data(self.session, sent, chunk).to_bytes()))
                self.image_bytes_sent += len(chunk)
                sent += len(chunk)
            answer = await self._next_frame()
            if answer is None:
                await self.link.send(encode_stream(frames.Data(self.session, 0).to_bytes()))
                answer = await self._next_frame()
                sent = answer.received if isinstance(answer, frames.Ack) else sent
            if isinstance(answer, frames.Nak):
                sent = answer.received
            if isinstance(answer, frames.Ack | frames.Nak):
                received, credit = max(received, answer.received), max(credit, answer.credit)

    async def update(self, image: bytes, version: str, trial_s: int = 600) -> RcpInfo:
        """Bring an image in and activate it; return what the device says after its restart."""
        info = await self.hello()
        await self.send_image(image, await self.offer(image, version))
        finished = await self.ask(frames.Finish(self.session), frames.Finished)
        assert finished.sha256 == hashlib.sha256(image).digest()
        activate = frames.Activate(self.session, finished.sha256, info.boot_id, trial_s)
        await self.ask(activate, frames.Activated)
        while (again := await self.hello()).boot_id == info.boot_id:
            pass
        return again

    async def confirm(self, image: bytes) -> RcpInfo:
        await self.ask(Confirm(8, sha256=hashlib.sha256(image).digest()), Confirmed)
        return await self.hello()

    async def _next_frame(self) -> frames.Frame | None:
        """Return the next frame, or None after a silence."""
        while not self._frames:
            try:
                async with asyncio.timeout(REPEAT_S):
                    data = await self.link.receive()
            except TimeoutError:
                return None
            found = self._deframer.feed(data)
            self._frames += [frames.decode(content) for content in found if isinstance(content, bytes)]
        return self._frames.pop(0)
