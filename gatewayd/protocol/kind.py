"""What a protocol brings with it: everything that the rest of gatewayd asks for by its name."""

import random as random_module
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from gatewayd.protocol.gatt import GattProfile
from gatewayd.protocol.image import ImageId
from gatewayd.protocol.session import TransferSession


@dataclass(frozen=True, slots=True)
class SessionContext:
    """What a session has to know to begin with.

    Attributes:
        gateway_id: who speaks.
        is_datagram: whether the link carries packets; then it has no speed, and the bauds mean nothing.
        baud, transfer_baud: the line's speed, and the one to change to for a transfer.
        busy_s: how long a device may say that it is busy without getting on; None: the protocol's own.
        answer_floor_s: the least wait for its word on what was sent; None: the protocol's own.
        settings: what the configuration has under the protocol's name: an instance of its `settings`.
    """

    gateway_id: str
    is_datagram: bool = False
    baud: int = 115_200
    transfer_baud: int | None = None
    busy_s: float | None = None
    answer_floor_s: float | None = None
    settings: Any = None
    # Picks nonces and session numbers, not secrets.
    random: random_module.Random = field(default_factory=random_module.Random)


def named_by_file(_content: bytes | memoryview, sha256: bytes, _version: str) -> ImageId:
    """Name an image by the SHA-256 of its file: any file is an image."""
    return ImageId.of_file(sha256)


def no_version(_content: bytes | memoryview) -> str | None:
    """Of files that do not carry a version."""
    return None


@dataclass(frozen=True, slots=True)
class ProtocolKind:
    """One protocol.

    Attributes:
        name: its name in the configuration (`protocol:`), and of the key that holds its `settings`.
        title: its name for people.
        make_session: makes a session for one opening of a link. Its `identify` is also the question of
            `gatewayctl scan`, and must change nothing in a device.
        gatt: where it is found on a Bluetooth device; None: it does not go over Bluetooth.
        name_image: returns what a device calls an image, from content, SHA-256 of that, and version. Raises
            FirmwareError where the content is no image for such a device, or one of another version.
        read_version: returns the version M.m.p that an image carries in itself; None: it carries none. Raises
            FirmwareError where the content is no image for such a device.
        caution: what it cannot promise, for a warning of check-config; and `advice`, what to do about that.
        settings: the model of its own settings, if it has any; each of them needs a default.
        is_asked_in_scans: whether `gatewayctl scan uart` asks a port in this protocol.
    """

    name: str
    title: str
    make_session: Callable[[SessionContext], TransferSession]
    gatt: GattProfile | None = None
    name_image: Callable[[bytes | memoryview, bytes, str], ImageId] = named_by_file
    read_version: Callable[[bytes | memoryview], str | None] = no_version
    caution: str = ""
    advice: str = ""
    settings: type[BaseModel] | None = None
    is_asked_in_scans: bool = True
