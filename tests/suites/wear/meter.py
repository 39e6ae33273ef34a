"""What the store writes: the bytes that its one thread gave to the kernel."""

import threading
from pathlib import Path

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
