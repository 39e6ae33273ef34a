"""The demo's broker: amqtt in this process; or mosquitto, if that is not installed (Debian lacks it)."""

import asyncio
import contextlib
import logging
import os
import shutil
import socket
from collections.abc import AsyncIterator

from gatewayd.errors import HostError

# mosquitto listens within a fraction of a second, or it has ended.
_POLL_S = 0.05
# More than it takes to end when asked.
_END_S = 3.0


@contextlib.asynccontextmanager
async def demo_broker() -> AsyncIterator[int]:
    """Run a broker that only this machine can reach; yields its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    try:
        import amqtt  # noqa: F401, PLC0415 - an extra: the rest of gatewayctl does without it
    except ImportError:
        broker = _mosquitto(port)
    else:
        broker = _amqtt(port)
    async with broker:
        yield port


@contextlib.asynccontextmanager
async def _amqtt(port: int) -> AsyncIterator[None]:
    from amqtt.broker import Broker  # noqa: PLC0415 - see above

    logging.disable(logging.CRITICAL)
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    try:
        yield
    finally:
        await broker.shutdown()


@contextlib.asynccontextmanager
async def _mosquitto(port: int) -> AsyncIterator[None]:
    """Run mosquitto; without a configuration it serves only this machine, and any user on it."""
    program = shutil.which("mosquitto", path=f"{os.defpath}:/usr/sbin:{os.environ.get('PATH', '')}")
    if program is None:
        hint = "apt install mosquitto, or pip install 'gatewayd[demo]'"
        raise HostError("the demo's broker is missing", code="no_demo_broker", hint=hint)
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(program, "-p", str(port), stdout=quiet, stderr=quiet)
    try:
        while not _listens(port):
            if process.returncode is not None:
                raise HostError(f"the demo's broker, {program}, ended immediately", code="no_demo_broker")
            await asyncio.sleep(_POLL_S)
        yield
    finally:
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(_END_S):
            await process.wait()
    except TimeoutError:
        # mosquitto loses a SIGTERM that comes between its listening and the first turn of its main loop.
        process.kill()
        await process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
