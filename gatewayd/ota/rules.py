"""Which firmware a device may get: small checks that pass or raise.

The anti-rollback mark. A signature covers neither the application nor the version; the only authenticated
order among containers is their build timestamp. A board's mark is that of the newest genuine image that it
is known to have run (jobs/rollback_marks.py). An older timestamp is refused; an equal one is accepted only
with the same container, so that a retry passes and a second build of the same millisecond does not.
`allow_downgrade` suspends the check and does not remove the mark: once the older image has succeeded, its
timestamp is the new mark, and from then on everything newer than *that* is accepted. So it should stay in a
configuration only for the duration of the downgrade.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from gatewayd.errors import DeviceError, FirmwareError
from gatewayd.ota.container import built_at
from gatewayd.ota.version import Line, Version

# rBoot compares the address within the mapped 1 MiB of flash (ESP8266).
_LOW20 = 0xFFFFF


class Payload(StrEnum):
    """What follows the patch header: the image itself, or one of Sming's containers."""

    STANDARD = "standard"
    ADVANCED = "advanced"


class Deliver(StrEnum):
    """What the device is sent: the ROM for its slot, or the container as it was published."""

    ROM = "rom"
    CONTAINER = "container"


class SlotMatch(StrEnum):
    """How a ROM's address is compared with that of the device's free slot."""

    EXACT = "exact"
    LOW20 = "low20"


@dataclass(frozen=True, slots=True)
class RollbackMark:
    """Identifies a genuine image: its container's authenticated timestamp and `Container.sha256`."""

    timestamp_ms: int
    container_sha256: bytes


def check_version(
    installed: Version, offered: Version, *, line: Line | None = None, allow_downgrade: bool
) -> None:
    """Check for the line that the device follows and a higher version; with `allow_downgrade` any other one.

    `line`: the one that it follows, whatever it runs; by default that of what it runs.

    Raises FirmwareError `incompatible` or `not_newer`.
    """
    expected = line or installed.line
    if offered.line != expected:
        raise FirmwareError(
            f"version {offered} cannot replace {installed}: expected {expected}.*",
            code="incompatible",
            hint=f'line: "{offered.line}" in the configuration takes the step, or `push --line` with this'
            " file; the person who orders it is responsible for it",
        )
    if offered == installed:
        raise FirmwareError(f"version {offered} already runs on the device", code="not_newer")
    if offered < installed and not allow_downgrade:
        raise FirmwareError(
            f"version {offered} is older than the installed {installed}",
            code="not_newer",
            hint="allow_downgrade: true lets it pass",
        )


def check_identity(
    expected_app: str,
    expected_hardware: str | None,
    expected_device: str | None,
    *,
    got_app: str | None,
    got_hardware: str | None,
    got_device: str | None,
) -> None:
    """Check that the device is the configured one; an app_id that the protocol cannot report is not checked.

    Raises DeviceError `wrong_app`, `wrong_hardware` or `wrong_device`.
    """
    if got_app not in (None, expected_app):
        raise DeviceError(
            f"the device says it runs app_id {got_app!r}, expected {expected_app!r}",
            code="wrong_app",
            hint="is another board on this port?",
        )
    board, one_like_it = (
        "is another board on this port?",
        "is it another board of this kind, or its replacement?",
    )
    for name, expected, got, code, hint in (
        ("hardware_id", expected_hardware, got_hardware, "wrong_hardware", board),
        ("device_id", expected_device, got_device, "wrong_device", one_like_it),
    ):
        if expected is not None and got != expected:
            said = f"no {name}" if got is None else f"{name} {got!r}"
            raise DeviceError(f"the device reports {said}, expected {expected!r}", code=code, hint=hint)


def check_rollback(
    mark: RollbackMark | None, timestamp_ms: int | None, container_sha256: bytes, *, allow_downgrade: bool
) -> None:
    """Check that it is not older than the newest image the board has run.

    Passes without a mark or an authenticated timestamp.

    Raises FirmwareError `rollback`.
    """
    if mark is None or timestamp_ms is None or allow_downgrade or timestamp_ms > mark.timestamp_ms:
        return
    if timestamp_ms == mark.timestamp_ms and container_sha256 == mark.container_sha256:
        return
    newest = f"the newest image that the board is known to have run: {built_at(mark.timestamp_ms)}"
    if timestamp_ms == mark.timestamp_ms:
        said = f"is another container with the build timestamp of {newest}"
    else:
        said = f"was built at {built_at(timestamp_ms)}, before {newest}"
    raise FirmwareError(
        f"the container {said}",
        code="rollback",
        hint="rebuild it, or set allow_downgrade: true while you go back",
    )


class Addressed(Protocol):
    """Something for one flash address: a ROM, or the facts about one."""

    @property
    def address(self) -> int:
        """The flash address."""
        ...


R = TypeVar("R", bound=Addressed)


def select_rom(roms: Sequence[R], slot_address: int | None, match: SlotMatch) -> R:
    """Return the ROM for the device's free slot; without a slot address, the only ROM there is.

    `low20` prefers the ROM at the exact address: where two slots are 1 MiB apart, the other slot's ROM
    matches in the low 20 bits as well, and would not run in this one. Otherwise the first match is taken.
    Raises FirmwareError `no_rom_for_slot`.
    """
    if slot_address is None:
        if len(roms) == 1:
            return roms[0]
        slot, hint = "no slot address", "only a container with a single ROM fits such a device"
    else:
        for mask in (~0, _LOW20) if match is SlotMatch.LOW20 else (~0,):
            for rom in roms:
                if (rom.address ^ slot_address) & mask == 0:
                    return rom
        slot, hint = f"its free slot at {slot_address:#x} (slot_match: {match})", ""
        if any((rom.address ^ slot_address) & _LOW20 == 0 for rom in roms):
            hint = "slot_match: low20 would match"
    addresses = ", ".join(f"{rom.address:#x}" for rom in roms)
    raise FirmwareError(
        f"the device reports {slot}, the container has ROMs at {addresses}", code="no_rom_for_slot", hint=hint
    )


def check_size(size: int, slot_size: int | None) -> None:
    """Check that the image fits the slot, if its size is known. Raises FirmwareError `too_large`."""
    if slot_size is not None and size > slot_size:
        raise FirmwareError(
            f"the image has {size} bytes, the device's slot {slot_size}: {size - slot_size} too many",
            code="too_large",
        )
