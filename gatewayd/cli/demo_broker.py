"""The demo's broker: the mosquitto of this machine; or amqtt, in this process, if there is none."""

import asyncio
import contextlib
import importlib.util
import logging
import os
import shutil
import socket
from collections.abc import AsyncIterator
from typing import NamedTuple

from gatewayd.errors import HostError

# mosquitto listens within a fraction of a second, or it has ended.
_POLL_S = 0.05
# More than it takes to end when asked.
_END_S = 3.0


class DemoBroker(NamedTuple):
    """A running broker."""

    port: int
    name: str


@contextlib.asynccontextmanager
async def demo_broker() -> AsyncIterator[DemoBroker]:
    """Run a broker that only this machine can reach."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    if program := shutil.which("mosquitto", path=f"{os.defpath}:/usr/sbin:{os.environ.get('PATH', '')}"):
        broker, name = _mosquitto(program, port), program
    elif importlib.util.find_spec("amqtt"):  # an extra: the rest of gatewayctl does without it
        broker, name = _amqtt(port), "amqtt, a small one in Python, because mosquitto is not installed"
    else:
        hint = "apt install mosquitto, or pip install 'gatewayd[demo]'"
        raise HostError("the demo's broker is missing", code="no_demo_broker", hint=hint)
    async with broker:
        yield DemoBroker(port, name)


@contextlib.asynccontextmanager
async def _amqtt(port: int) -> AsyncIterator[None]:
    from amqtt.broker import Broker  # noqa: PLC0415 - only where there is no mosquitto

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
async def _mosquitto(program: str, port: int) -> AsyncIterator[None]:
    """Run mosquitto; without a configuration it serves only this machine, and any user on it."""
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
