"""What the store writes, as bytes that its one thread gave to the kernel; and what is logged."""

import json
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from gatewayd.store.store import Store


class Meter:
    """Counts from `start` on, by the kernel's own account of the thread."""

    def __init__(self, thread_id: int) -> None:
        self._account = Path(f"/proc/self/task/{thread_id}/io")
        self._before = self._total()

    @classmethod
    async def of(cls, store: Store) -> "Meter":
        return cls(await store.run(lambda _: threading.get_native_id()))

    @property
    def written(self) -> int:
        return self._total() - self._before

    def _total(self) -> int:
        lines = dict(line.split(": ") for line in self._account.read_text().splitlines())
        return int(lines["wchar"])


class LogMeter:
    """Counts the bytes of what is logged from level info on, as lines of JSON, and lets nothing out."""

    def __init__(self) -> None:
        self.written = 0

    def __call__(self, _logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        if method != "debug":
            self.written += len(json.dumps(event, default=str)) + len(_STAMP)
        raise structlog.DropEvent


_STAMP = ', "level": "warning", "timestamp": "2026-11-28T22:28:13.304000Z"'


@contextmanager
def metering_log() -> Iterator[LogMeter]:
    """Count what is logged meanwhile."""
    meter, before = LogMeter(), structlog.get_config()["processors"]
    structlog.configure(processors=[meter])
    try:
        yield meter
    finally:
        structlog.configure(processors=before)
