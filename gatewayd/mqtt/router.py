"""Hands each message to the handler for its topic."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gatewayd.errors import FirmwareError
from gatewayd.mqtt.connection import IncomingMessage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Route(Generic[T]):
    """The handler for topics of one form; `parse` returns None for topics of another form."""

    form: str
    parse: Callable[[str], T | None]
    handle: Callable[[T, IncomingMessage], Awaitable[None]]

    async def accept(self, message: IncomingMessage) -> bool:
        """Handle the message; False: its topic has another form. Raises what `handle` raises."""
        meant = self.parse(message.topic)
        if meant is None:
            return False
        await self.handle(meant, message)
        return True


class Router:
    """Hands a message to the first route whose form matches the topic."""

    def __init__(self, routes: Sequence[Route[Any]]) -> None:
        self._routes = routes

    async def accept(self, message: IncomingMessage) -> None:
        """Return when it is handled. Raises what its handler raises, and FirmwareError `not_ours`."""
        for route in self._routes:
            if await route.accept(message):
                return
        forms = " or ".join(route.form for route in self._routes)
        raise FirmwareError(f"topic {message.topic!r} does not have the form {forms}", code="not_ours")
