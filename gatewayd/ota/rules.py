"""Which firmware a device may take: small predicates that pass, or raise.

The anti-rollback mark. A signature covers neither the application nor the version; the only authenticated
order among containers is their build timestamp. A board's mark is that of the newest genuine image that it
is known to run (jobs/marks.py). An older timestamp is refused; the same one only with the same container, so
that a retry passes and a second build of the same millisecond does not. `allow_downgrade` suspends the check
and does not remove the mark: when the older image has succeeded, its timestamp is the new mark, and from then
on everything newer than *that* is accepted. So it belongs in a configuration only for as long as the
downgrade takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from gatewayd.errors import DeviceError, FirmwareError
from gatewayd.ota.version import Version, is_newer, is_same_line

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
    """Of a genuine image: its container's authenticated timestamp and `Container.sha256`."""

    timestamp_ms: int
    container_sha256: bytes


def check_version(installed: Version, offered: Version, *, allow_downgrade: bool) -> None:
    """Same major.minor and a strictly higher patch; with `allow_downgrade` any other patch.

    Raises FirmwareError `incompatible` or `not_newer`.
    """
    if not is_same_line(installed, offered):
        raise FirmwareError(
            f"version {offered} cannot replace {installed}: expected {installed.major}.{installed.minor}.*",
            code="incompatible",
        )
    if offered == installed:
        raise FirmwareError(f"version {offered} is what the device already runs", code="not_newer")
    if not is_newer(installed, offered) and not allow_downgrade:
        raise FirmwareError(
            f"version {offered} is older than the installed {installed}",
            code="not_newer",
            hint="allow_downgrade: true lets it pass",
        )


def check_identity(
    expected_app: str, expected_hardware: str | None, got_app: str | None, got_hardware: str | None
) -> None:
    """The device is the one the configuration means; a protocol may know no app_id, then it is believed.

    Raises DeviceError `wrong_app` or `wrong_hardware`.
    """
    if got_app not in (None, expected_app):
        raise DeviceError(
            f"the device says it runs app_id {got_app!r}, expected {expected_app!r}",
            code="wrong_app",
            hint="is another board on this port?",
        )
    if expected_hardware is not None and got_hardware != expected_hardware:
        got = "no hardware_id" if got_hardware is None else f"hardware_id {got_hardware!r}"
        raise DeviceError(
            f"the device reports {got}, expected {expected_hardware!r}",
            code="wrong_hardware",
            hint="is another board on this port?",
        )


def check_rollback(
    mark: RollbackMark | None, timestamp_ms: int | None, container_sha256: bytes, *, allow_downgrade: bool
) -> None:
    """Not older than the newest image the board has run. No mark, or no authenticated timestamp: passes.

    Raises FirmwareError `rollback`.
    """
    if mark is None or timestamp_ms is None or allow_downgrade or timestamp_ms > mark.timestamp_ms:
        return
    if timestamp_ms == mark.timestamp_ms and container_sha256 == mark.container_sha256:
        return
    age = "older than" if timestamp_ms < mark.timestamp_ms else "the same, in another container, as"
    raise FirmwareError(
        f"the container's build timestamp {timestamp_ms} is {age} {mark.timestamp_ms}, that of the newest"
        " image that the board is known to have run",
        code="rollback",
        hint="rebuild it, or set allow_downgrade: true while you go back",
    )


class Addressed(Protocol):
    """What is meant for one flash address: a ROM, or what is known of one."""

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
    """The image fits the slot, where the device tells its size. Raises FirmwareError `too_large`."""
    if slot_size is not None and size > slot_size:
        raise FirmwareError(
            f"the image has {size} bytes, the device's slot {slot_size}: {size - slot_size} too many",
            code="too_large",
        )
