"""The process: its socket, its page, its end."""

import asyncio
import contextlib
import ipaddress
import resource
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
from aiohttp import web

from gatewayd.errors import ConfigError, HostError
from gatewayd.web.access import Access
from gatewayd.web.app import Page, Parts
from gatewayd.web.connections import MOST_CONNECTIONS, Connections
from gatewayd.web.files import Files
from gatewayd.web.mirror import Mirror
from gatewayd.web.passwords import PasswordFile

log = structlog.get_logger()

# Files besides connections: the control socket, libraries, what asyncio has.
_SPARE_FILES = 100
# For commands that are on their way to the daemon.
_SHUTDOWN_S = 5.0


@dataclass(frozen=True)
class WebSettings:
    """What the command line says."""

    socket: Path
    host: str
    port: int
    password_file: Path | None = None
    allowed_hosts: tuple[str, ...] = ()
    user_header: str | None = None


def check(settings: WebSettings) -> None:
    """Raise ConfigError or HostError for settings with which the page must not start."""
    if settings.password_file is not None:
        if not PasswordFile(settings.password_file).load():
            hint = f"gatewayctl web-password {settings.password_file} NAME"
            raise ConfigError(f"{settings.password_file} has no passwords", hint=hint)
    elif not is_loopback(settings.host):
        raise ConfigError(
            f"{settings.host} can be reached from other machines, and there is no password file",
            hint="--password-file; `gatewayctl web-password` makes one",
        )


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine alone."""
    return host == "localhost" or ipaddress.ip_address(host).is_loopback


async def serve(settings: WebSettings, on_ready: Callable[[str], None]) -> None:
    """Serve until cancelled; `on_ready` gets the address. Raises HostError when it cannot listen."""
    async with running(settings) as address:
        on_ready(address)
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def running(settings: WebSettings) -> AsyncIterator[str]:
    """Serve while inside; yield the page's address."""
    _allow_files(MOST_CONNECTIONS + _SPARE_FILES)
    passwords = PasswordFile(settings.password_file) if settings.password_file else None
    mirror = Mirror(settings.socket)
    connections = Connections()
    parts = Parts(
        mirror=mirror,
        access=Access(passwords, time.monotonic),
        files=Files(),
        connections=connections,
        allowed_hosts=settings.allowed_hosts,
        user_header=settings.user_header,
    )
    runner = web.AppRunner(
        Page(parts).application(),
        access_log=None,
        handle_signals=False,
        handler_cancellation=True,  # a listener that is gone is noticed at once
        shutdown_timeout=_SHUTDOWN_S,
    )
    await runner.setup()
    assert runner.server is not None  # noqa: S101 - it is there once `setup` has run
    connections.inner = runner.server
    following = asyncio.create_task(mirror.run(), name="mirror")
    try:
        server = await _listen(settings, connections)
        async with server:
            yield _address(settings.host, server.sockets[0])
    finally:
        following.cancel()
        await asyncio.wait([following])
        await runner.cleanup()


async def _listen(settings: WebSettings, connections: Connections) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    try:
        return await loop.create_server(connections.protocol, settings.host, settings.port, backlog=128)
    except OSError as error:
        raise HostError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror or error}",
            hint="--listen names another address",
        ) from error


def _address(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _allow_files(needed: int) -> None:
    """Raise the limit of open files as far as a thousand listeners need it, and the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
