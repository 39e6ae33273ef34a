"""A proxy as Home Assistant's ingress is one: with a path and a name of its own, naming the person."""

import asyncio
import threading
from typing import Self

import aiohttp
from aiohttp import web

PATH = "/api/ingress/x7Yz"
NAME = "barn.localhost"  # every browser takes it for this machine
HEADER, PERSON = "X-Remote-User-Name", "Alice Smith"
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "content-encoding"}


class Proxy:
    """Serves the page at `address` while inside."""

    def __init__(self, target: str) -> None:
        self._target = target.rstrip("/")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._is_up = threading.Event()
        self._serving: asyncio.Task[None] | None = None
        self.address = ""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_up.wait(120)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._serving is not None
        self._loop.call_soon_threadsafe(self._serving.cancel)
        self._thread.join(120)

    def _run(self) -> None:
        self._serving = self._loop.create_task(self._serve())
        self._loop.run_until_complete(asyncio.wait([self._serving]))
        self._loop.close()

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_route("*", PATH + "/{tail:.*}", self._pass_on)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        self.address = f"http://{NAME}:{port}{PATH}/"
        self._is_up.set()
        try:
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        headers[HEADER] = PERSON
        url = f"{self._target}/{request.match_info['tail']}"
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                request.method, url, params=request.query, headers=headers, data=await request.read()
            ) as answer,
        ):
            passed = {
                name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP
            }
            response = web.StreamResponse(status=answer.status, headers=passed)
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
        return response
