"""What has been told, across restarts: a small file that is replaced as a whole."""

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ValidationError

from gatewayd.alerts.events import OF_JOBS, RECURRING, Event
from gatewayd.errors import HostError
from gatewayd.whole_file import replace_file


class _Stored(BaseModel):
    """The file. A later version may add to it."""

    since: str | None = None
    told: dict[str, dict[str, str]] = {}


@dataclass(slots=True)
class Memory:
    """`since`: how far the jobs are known, as the daemon writes times; None before the first start.

    `told`: the key of the last event of each name, by device.
    """

    path: Path | None = None
    since: str | None = None
    told: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | None) -> "Memory":
        """Read it. What cannot be understood is as good as nothing. Raises HostError."""
        try:
            text = path.read_bytes() if path is not None else b"{}"
        except FileNotFoundError:
            text = b"{}"
        except OSError as error:
            raise HostError(f"cannot read {path}: {error.strerror or error}") from error
        try:
            stored = _Stored.model_validate_json(text)
        except ValidationError:
            stored = _Stored()
        return cls(path, stored.since, stored.told)

    def is_told(self, event: Event) -> bool:
        """Whether it was told before; of jobs, also if a later one was."""
        told = self.told.get(event.device, {}).get(event.name)
        if told is None:
            return False
        if event.name in OF_JOBS:
            return told.isdecimal() and int(event.key) <= int(told)
        return told == event.key

    def tell(self, event: Event) -> None:
        """Note that it was told."""
        self.told.setdefault(event.device, {})[event.name] = event.key

    def is_over(self, device: str, *names: str) -> None:
        """Note that what may come again is over."""
        for name in RECURRING.intersection(names):
            self.told.get(device, {}).pop(name, None)

    def forget_jobs_above(self, number: int) -> None:
        """Forget jobs that the daemon cannot have told of: it begins to count again with a new database."""
        for told in self.told.values():
            for name in OF_JOBS & told.keys():
                if not told[name].isdecimal() or int(told[name]) > number:
                    del told[name]

    def forget(self, device: str) -> None:
        """Note that the configuration has a device no more."""
        self.told.pop(device, None)

    def save(self) -> None:
        """Write it. Raises HostError."""
        if self.path is None:
            return
        text = _Stored(since=self.since, told=self.told).model_dump_json()
        replace_file(self.path, text, is_durable=True)
