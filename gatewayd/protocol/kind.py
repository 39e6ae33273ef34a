"""What a protocol provides: everything that the rest of gatewayd looks up by its name."""

import random as random_module
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from gatewayd.protocol.gatt import GattProfile
from gatewayd.protocol.image import ImageId
from gatewayd.protocol.session import TransferSession


@dataclass(frozen=True, slots=True)
class SessionContext:
    """What a session needs to know at its creation.

    Attributes:
        gateway_id: the gateway's own name.
        is_datagram: whether the link carries packets; then it has no speed, and the bauds mean nothing.
        baud, transfer_baud: the line's speed, and the one to change to for a transfer.
        busy_s: how long a device may report busy without making progress; None: the protocol's default.
        answer_floor_s: the least time to wait for an acknowledgement; None: the protocol's default.
        accepts_no_trial: whether an image may be started that the bootloader will not revert.
        settings: an instance of the protocol's `settings` model, from the configuration.
        only_identifies: nothing in the device may be changed, not even by a restart.
    """

    gateway_id: str
    is_datagram: bool = False
    baud: int = 115_200
    transfer_baud: int | None = None
    busy_s: float | None = None
    answer_floor_s: float | None = None
    accepts_no_trial: bool = False
    settings: Any = None
    only_identifies: bool = False
    # Picks nonces and session numbers, not secrets.
    random: random_module.Random = field(default_factory=random_module.Random)


def named_by_file(_content: bytes | memoryview, sha256: bytes, _version: str) -> ImageId:
    """Return the SHA-256 of the file as the image's id: any file is an image."""
    return ImageId.of_file(sha256)


def no_version(_content: bytes | memoryview) -> str | None:
    """Return None, for protocols whose files carry no version."""
    return None


@dataclass(frozen=True, slots=True)
class ProtocolKind:
    """One protocol.

    Attributes:
        name: its name in the configuration (`protocol:`), and of the key that holds its `settings`.
        title: its name for people.
        make_session: creates a session for one opening of a link. Its `identify` is also used by
            `gatewayctl scan`, and must change nothing in a device.
        gatt: its GATT service on a Bluetooth device; None: it does not run over Bluetooth.
        name_image: returns a device's id for an image, given its content, SHA-256 and version. Raises
            FirmwareError if the content is not an image for such a device, or has another version.
        read_version: returns the version M.m.p in the image itself; None: it has none. Raises FirmwareError
            if the content is not an image for such a device.
        image_magic: how each image for its devices begins; empty: it prescribes nothing.
        caution: what it cannot guarantee, as a warning of check-config; `advice`: what to do about it.
        reports_device_id: whether its devices can report a serial number.
        settings: the model of its own settings, if it has any; each of them needs a default.
        retries_reverted_once: whether its devices take an image that they gave up only one more time.
        is_asked_in_scans: whether `gatewayctl scan uart` tries this protocol on a port.
        scan_settings: the settings that it tries there, in turn.
    """

    name: str
    title: str
    make_session: Callable[[SessionContext], TransferSession]
    gatt: GattProfile | None = None
    name_image: Callable[[bytes | memoryview, bytes, str], ImageId] = named_by_file
    read_version: Callable[[bytes | memoryview], str | None] = no_version
    image_magic: bytes = b""
    caution: str = ""
    advice: str = ""
    reports_device_id: bool = True
    settings: type[BaseModel] | None = None
    retries_reverted_once: bool = False
    is_asked_in_scans: bool = True
    scan_settings: tuple[Mapping[str, str], ...] = ({},)
