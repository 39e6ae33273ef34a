"""The latest status of each device, and subscriptions to changes.

The board holds only the latest status of every device. A subscription remembers which devices changed, not
the changes: a slow reader sees the latest status, and costs at most one entry per device.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

from gatewayd.timestamps import utc_text


class Unwell(StrEnum):
    """The states that no job has: nobody reaches the device, or nothing that was published is fit for it."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """One device. `progress` is in percent; `code` and `reason` say why it waits or failed.

    `refused_version` and `refused_reason`: of the release that it will not get, beside what it runs.
    `resumes` counts how often the device was found to have some of the image already.
    """

    name: str
    state: str
    app_id: str | None = None
    installed_version: str | None = None
    latest_version: str | None = None
    progress: int | None = None
    bytes_per_s: int | None = None
    job: int | None = None
    attempt: int | None = None
    code: str | None = None
    reason: str | None = None
    paused: bool = False
    received_bytes: int | None = None
    image_bytes: int | None = None
    resumes: int | None = None
    refused_version: str | None = None
    refused_reason: str | None = None
    updated_at: datetime | None = None

    @property
    def seconds_left(self) -> int | None:
        """Seconds that the transfer still needs at its present speed."""
        if self.received_bytes is None or self.image_bytes is None or not self.bytes_per_s:
            return None
        return -(-(self.image_bytes - self.received_bytes) // self.bytes_per_s)

    def to_json(self) -> dict[str, Any]:
        """Return the document that is published; times in UTC, ISO 8601."""
        at = self.updated_at
        return {
            "state": self.state,
            "app_id": self.app_id,
            "installed_version": self.installed_version,
            "latest_version": self.latest_version,
            "progress": self.progress,
            "bytes_per_s": self.bytes_per_s,
            "job": self.job,
            "attempt": self.attempt,
            "code": self.code,
            "reason": self.reason,
            "paused": self.paused,
            "refused_version": self.refused_version,
            "refused_reason": self.refused_reason,
            "updated_at": at and utc_text(at, "milliseconds"),
        }

    def to_bytes(self) -> bytes:
        """Return `to_json` as compact UTF-8."""
        return json.dumps(self.to_json(), ensure_ascii=False, separators=(",", ":")).encode()

    def differs_in_progress_only(self, other: "DeviceStatus") -> bool:
        """Whether the two differ only in progress, speed and time."""
        mine = replace(
            self,
            progress=other.progress,
            bytes_per_s=other.bytes_per_s,
            received_bytes=other.received_bytes,
            updated_at=other.updated_at,
        )
        return mine == other


class StatusBoard:
    """The latest status of every device. For use on one event loop; `update` never blocks."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._devices: dict[str, DeviceStatus] = {}
        self._subscriptions: list[Subscription] = []

    def update(self, name: str, **changes: Any) -> None:
        """Change fields of a device, adding it if it is unknown; no change, no notification."""
        old = self._devices.get(name)
        new = replace(old or DeviceStatus(name, "unknown"), **changes)
        if new == old:
            return
        self._devices[name] = replace(new, updated_at=self._clock())
        self._notify(name)

    def remove(self, name: str) -> None:
        """Forget a device; subscribers get its name, and `get` then returns None."""
        if self._devices.pop(name, None):
            self._notify(name)

    def get(self, name: str) -> DeviceStatus | None:
        """Return the latest status of a device."""
        return self._devices.get(name)

    def all(self) -> tuple[DeviceStatus, ...]:
        """Return the latest status of every device, in the order they became known."""
        return tuple(self._devices.values())

    def subscribe(self) -> "Subscription":
        """Subscribe to changes from now on; use it in a `with` statement, which ends it."""
        subscription = Subscription(self._subscriptions)
        self._subscriptions.append(subscription)
        return subscription

    def _notify(self, name: str) -> None:
        for subscription in self._subscriptions:
            subscription._note(name)  # noqa: SLF001 - the two classes are one mechanism


class Subscription:
    """The names of devices that changed; each once, no matter how often it changed since it was read."""

    def __init__(self, subscriptions: "list[Subscription]") -> None:
        self._subscriptions = subscriptions
        self._names: dict[str, None] = {}
        self._news = asyncio.Event()

    def close(self) -> None:
        """End the subscription."""
        if self in self._subscriptions:
            self._subscriptions.remove(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        await self._news.wait()
        name = next(iter(self._names))
        del self._names[name]
        if not self._names:
            self._news.clear()
        return name

    def take(self) -> tuple[str, ...]:
        """Return all names that are waiting, without blocking."""
        names = tuple(self._names)
        self._names.clear()
        self._news.clear()
        return names

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _note(self, name: str) -> None:
        self._names[name] = None
        self._news.set()
