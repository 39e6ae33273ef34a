"""The bootloader of a virtual device: boot flag, swap, trial, revert; and `device.json`.

    active.bin     the image it runs; absent: the factory image
    pending.bin    the image that the boot flag in device.json is set for
    previous.bin   what it ran before; absent: the factory image
    device.json    identity, version, boot flag, trial

Each change of device.json is one atomic step; moves of files around it can be done twice. So the device may
die anywhere. The trial's end is kept as a time of the caller's clock, so that a trial also ends while nothing
runs.
"""

import dataclasses
import hashlib
import json
from typing import Any

from gatewayd.errors import HostError
from gatewayd.protocol.session import ImageState
from gatewayd.simulator.file_store import FileStore
from gatewayd.simulator.profile import DeviceProfile

RECORD = "device.json"
ACTIVE = "active.bin"
PENDING = "pending.bin"
PREVIOUS = "previous.bin"
# What of a profile is kept, and wins over flags; geometry too, for flash.bin was laid out by it.
_KEPT = (
    "app_id",
    "hardware_id",
    "device_id",
    "slot_address",
    "slot_size",
    "erase_block",
    "write_unit",
    "base_baud",
)


class Bootloader:
    """Decides which image runs. `profile` is the one given, as changed by an existing device.json."""

    def __init__(self, files: FileStore, profile: DeviceProfile) -> None:
        self._files = files
        raw = files.read(RECORD)
        self._record: dict[str, Any] = {"version": profile.version} if raw is None else _parse(raw)
        kept: dict[str, Any] = {name: self._record[name] for name in _KEPT if name in self._record}
        self.profile = dataclasses.replace(profile, **kept)
        self._save()

    @property
    def image(self) -> bytes | None:
        """The running image; None for the factory's."""
        return self._files.read(ACTIVE)

    @property
    def version(self) -> str:
        """The running version."""
        version: str = self._record["version"]
        return version

    @property
    def trial_ends(self) -> float | None:
        """When the running image will be given up; None when it is confirmed."""
        trial = self._record.get("trial")
        return None if trial is None else float(trial["ends"])

    def image_state(self, tried_sha256: bytes | None) -> ImageState:
        """What became of the image tried last."""
        if self.trial_ends is not None:
            return ImageState.ON_TRIAL
        if tried_sha256 is not None and self._record.get("reverted_sha256") == tried_sha256.hex():
            return ImageState.REVERTED
        return ImageState.CONFIRMED

    def set_flag(self, image: bytes, version: str, trial_s: int) -> None:
        """Have `image` started at the next boot."""
        self._files.write(PENDING, image)
        self._save(
            pending={"version": version, "trial_s": trial_s, "sha256": hashlib.sha256(image).hexdigest()}
        )

    def boot(self, now: float) -> str:
        """Choose the image; return what was done, for the log, or nothing."""
        if self._record.get("pending") is not None:
            return self._swap(now)
        if self.trial_ends is not None and now >= self.trial_ends:
            return self._revert()
        return ""

    def confirm(self) -> None:
        """Keep the running image."""
        self._save(trial=None)

    def _swap(self, now: float) -> str:
        pending = self._record["pending"]
        if self._files.read(PENDING) is not None:
            self._copy_active_to_previous()
            self._files.move(PENDING, ACTIVE)
        trial = None
        if self.profile.can_revert:
            trial = {
                "ends": now + pending["trial_s"],
                "sha256": pending["sha256"],
                "previous_version": self.version,
                "previous_is_factory": self._files.read(PREVIOUS) is None,
            }
        self._save(version=pending["version"], pending=None, trial=trial, reverted_sha256=None)
        return f"starts {self.version}" + (f" on trial for {pending['trial_s']} s" if trial else "")

    def _revert(self) -> str:
        trial = self._record["trial"]
        given_up = self.version
        # From here on there is no way but back, whatever the clock does.
        self._save(trial={**trial, "ends": 0.0})
        if trial["previous_is_factory"]:
            self._files.remove(ACTIVE)
        elif self._files.read(PREVIOUS) is not None:
            self._files.move(PREVIOUS, ACTIVE)
        self._save(version=trial["previous_version"], trial=None, reverted_sha256=trial["sha256"])
        return f"gives {given_up} up, not confirmed in time; runs {self.version} again"

    def _copy_active_to_previous(self) -> None:
        active = self._files.read(ACTIVE)
        if active is None:
            self._files.remove(PREVIOUS)
        else:
            self._files.write(PREVIOUS, active)

    def _save(self, **changes: object) -> None:
        identity = {name: getattr(self.profile, name) for name in _KEPT}
        self._record = {**identity, **self._record, **changes}
        self._files.write(RECORD, json.dumps(self._record, indent=2).encode() + b"\n")


def _parse(raw: bytes) -> dict[str, Any]:
    hint = "correct it, or remove the state directory for a new device"
    try:
        record = json.loads(raw)
    except ValueError as error:
        raise HostError(f"{RECORD} is not JSON: {error}", code="bad_device_state", hint=hint) from error
    if not isinstance(record, dict) or not isinstance(record.get("version"), str):
        raise HostError(f"{RECORD} is no object with a version", code="bad_device_state", hint=hint)
    return record
