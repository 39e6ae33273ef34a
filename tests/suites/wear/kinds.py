"""Kinds of wear: what a device or a stranger that brings nothing new does to the gateway for a while."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from lab.jobs import a_device

from gatewayd.config import Device
from gatewayd.errors import LinkError
from gatewayd.protocol.session import Deferred, Failed, Outcome
from suites.wear.gateway import Gateway, a_gateway

Kind = Callable[[Path, float], Coroutine[Any, Any, int]]


class _ForEver(deque[Outcome]):
    """One answer, again and again."""

    def popleft(self) -> Outcome:
        return self[0]


async def not_now(folder: Path, seconds: float) -> int:
    """A device asks to be left alone for a moment, for ever."""
    async with a_gateway(folder, a_device()) as gateway:
        gateway.board.says["offer"] = _ForEver([Deferred(0, 1)])
        await gateway.publish()
        return await _written_in(gateway, seconds)


async def not_now_after_a_reset(folder: Path, seconds: float) -> int:
    """The same of a board that resets each time its port is opened."""
    async with a_gateway(folder, a_device()) as gateway:
        gateway.board.says["offer"] = _ForEver([Deferred(0, 1)])
        await gateway.publish()
        resets = asyncio.create_task(_every(1.0, lambda: _reset(gateway)))
        try:
            return await _written_in(gateway, seconds)
        finally:
            resets.cancel()


async def flapping_port(folder: Path, seconds: float) -> int:
    """A port comes and goes every two seconds, and the board on it restarts each time."""
    port = folder / "port"
    async with a_gateway(folder, _at(port)) as gateway:
        return await _flapping(gateway, port, seconds)


async def flapping_port_with_an_update(folder: Path, seconds: float) -> int:
    """The same while an update waits, of which nothing ever gets through."""
    port = folder / "port"
    async with a_gateway(folder, _at(port)) as gateway:
        gateway.board.says["offer"] = _ForEver([Failed(LinkError("gone", code="link_lost"))])
        await gateway.publish()
        return await _flapping(gateway, port, seconds)


async def changing_answers(folder: Path, seconds: float) -> int:
    """A device on a flapping port says something else each time."""
    port = folder / "port"
    async with a_gateway(folder, _at(port)) as gateway:
        said = iter(range(1, 1_000_000))

        def say_otherwise() -> None:
            number = next(said)
            gateway.board.info = replace(
                gateway.board.info,
                boot_id=number,
                version=f"4.3.{number % 2}",
                device_id=str(number),
                slot_size=number,
            )

        lies = asyncio.create_task(_every(1.0, say_otherwise))
        try:
            return await _flapping(gateway, port, seconds)
        finally:
            lies.cancel()


async def failing_for_ever(folder: Path, seconds: float) -> int:
    """A device that answers HELLO, fails each offer, and restarts in between."""
    port = folder / "port"
    async with a_gateway(folder, _at(port)) as gateway:
        gateway.board.says["offer"] = _ForEver([Failed(LinkError("garbled", code="no_answer"))])
        await gateway.publish()
        return await _flapping(gateway, port, seconds)


DEVICES: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        not_now,
        not_now_after_a_reset,
        flapping_port,
        flapping_port_with_an_update,
        changing_answers,
        failing_for_ever,
    )
}


def _at(port: Path) -> Device:
    return a_device(link={"uart": str(port)})


async def _flapping(gateway: Gateway, port: Path, seconds: float) -> int:
    def flap() -> None:
        if port.exists():
            port.unlink()
        else:
            port.touch()
            _reset(gateway)
        gateway.board.is_unplugged = not port.exists()

    flaps = asyncio.create_task(_every(2.0, flap))
    try:
        return await _written_in(gateway, seconds)
    finally:
        flaps.cancel()


def _reset(gateway: Gateway) -> None:
    gateway.board.info = replace(gateway.board.info, boot_id=gateway.board.info.boot_id + 1)


async def _every(seconds: float, do: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(seconds)
        do()


async def _written_in(gateway: Gateway, seconds: float) -> int:
    await asyncio.sleep(seconds)
    return gateway.meter.written
