"""A virtual SMP device whose flash is a file: the model of the server, on a line or a radio.

`flash.bin` holds both slots and what MCUboot keeps of them, and is replaced as one. `active.bin` and
`device.json` say what it runs and what it is. An upload that is under way is written at its beginning and
end only, since SMP forgets its offset with each restart.
"""

import fcntl
import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gatewayd.errors import HostError
from gatewayd.ota.version import Version
from gatewayd.protocol.smp.mcuboot import HEADER
from gatewayd.simulator.file_store import DirectoryFileStore
from gatewayd.simulator.smp.first_image import first_image
from gatewayd.simulator.smp.server import ServerProfile, SmpServer
from gatewayd.simulator.smp.slots import Slots, listed_image

_FLASH, _ACTIVE, _FACTS, _LOCK = "flash.bin", "active.bin", "device.json", "device.lock"
_PARTS = ("primary", "secondary", "old")
_FLAGS = ("is_pending", "is_confirmed")


class SmpDevice:
    """See the module's text. `hangs_on_trial`: an image on trial never answers."""

    def __init__(
        self,
        state: Path,
        profile: ServerProfile,
        version: Version,
        *,
        baud: int,
        log: Callable[[str], None],
        now: float,
        hangs_on_trial: bool = False,
    ) -> None:
        """Raises HostError if the directory cannot be used."""
        self.baud = baud
        self._log = log
        try:
            self._files = DirectoryFileStore(state)
            self._lock = _lock(state / _LOCK)
            self.profile = replace(profile, board=self._board() or profile.board)
            self.slots = self._open_slots(version)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _unusable(state, error) from error
        self.slots.reverts = profile.reverts
        if hangs_on_trial:
            self.slots.hangs = lambda _content: not self.slots.is_confirmed
        self._server = SmpServer(self.slots, self.profile, now)
        self._seen = self._standing()
        self._save()

    @property
    def version(self) -> str:
        """The version it runs."""
        return _version_of(self.slots.primary)

    @property
    def answers_from(self) -> float:
        """See SmpServer."""
        return self._server.answers_from

    def forget_line(self) -> None:
        """See SmpServer."""
        self._server.forget_line()

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes from the line."""
        self._server.receive_data(data, now)
        self._note()

    def data_to_send(self, now: float) -> bytes:
        """Return what has become due for the line."""
        data = self._server.data_to_send(now)
        self._note()
        return data

    def next_deadline(self) -> float | None:
        """When `data_to_send` has something to do."""
        due = self._server.next_deadline()
        return None if due == math.inf else due

    def handle_timeout(self, now: float) -> None:
        """Nothing: `data_to_send` does what is due."""

    def power_cut(self, now: float) -> None:
        """Off and on again."""
        self._server.power_cut(now)
        self._note()

    def close(self) -> None:
        """Let another process run the device."""
        os.close(self._lock)

    def _board(self) -> str | None:
        kept = self._files.read(_FACTS)
        return None if kept is None else str(json.loads(kept)["hardware_id"])

    def _open_slots(self, version: Version) -> Slots:
        content = self._files.read(_FLASH)
        if content is None:
            return Slots(first_image(version))
        head, _, rest = content.partition(b"\n")
        kept: dict[str, Any] = json.loads(head)
        slots = Slots(b"")
        for name in _PARTS:
            setattr(slots, name, rest[: kept[name]])
            rest = rest[kept[name] :]
        for name in _FLAGS:
            setattr(slots, name, bool(kept[name]))
        return slots

    def _standing(self) -> tuple[int, bool, bool, bool, bool]:
        slots = self.slots
        is_whole = len(slots.secondary) >= self._server.upload_size
        return slots.trials, slots.is_pending, slots.is_confirmed, bool(slots.secondary), is_whole

    def _note(self) -> None:
        """Save and log what has changed."""
        seen, self._seen = self._seen, self._standing()
        if seen == self._seen:
            return
        self._save()
        trials, was_pending, was_confirmed, had, was_whole = seen
        slots, size = self.slots, self._server.upload_size
        if slots.secondary and (not had or (was_whole and len(slots.secondary) < size)):
            self._log(f"offer of {_header_version(slots.secondary)}, {size} bytes")
        if slots.is_pending and not was_pending:
            self._log(f"activates {_version_of(slots.secondary)}")
        if slots.trials > trials:
            self._log(f"starts {self.version}" + (" on trial" if slots.reverts else ""))
        elif slots.is_confirmed and not was_confirmed:
            self._log(f"confirmed: {self.version}" if slots.old else f"runs {self.version} again")

    def _save(self) -> None:
        parts = {name: getattr(self.slots, name) for name in _PARTS}
        head = {name: len(part) for name, part in parts.items()}
        head |= {name: getattr(self.slots, name) for name in _FLAGS}
        self._files.write(_FLASH, json.dumps(head).encode() + b"\n" + b"".join(parts.values()))
        self._files.write(_ACTIVE, self.slots.primary)
        facts = {"protocol": "smp", "version": self.version, "hardware_id": self.profile.board}
        self._files.write(_FACTS, json.dumps(facts).encode())


def _version_of(content: bytes) -> str:
    image = listed_image(content)
    return image.version if image else ""


def _header_version(content: bytes) -> str:
    """Return the version in a header behind which the rest may be missing."""
    return ".".join(str(number) for number in HEADER.unpack_from(content)[6:9])


def _lock(path: Path) -> int:
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise HostError(f"another process runs the device in {path.parent}", code="device_in_use") from None
    return lock


def _unusable(state: Path, error: Exception) -> HostError:
    return HostError(
        f"cannot use the state directory {state}: {error}",
        code="bad_device_state",
        hint="remove it for a new device; one of a device with RCP is no use to one with SMP",
    )
