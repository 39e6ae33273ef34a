"""The machine a configuration is for: the values of `${hostname}` and `${machine_id}`.

machine-id(5) says that /etc/machine-id must be kept confidential, and the value is used in topics and client
ids. So it is hashed with gatewayd's application id, as in sd_id128_get_machine_app_specific(3):
`systemd-id128 machine-id --app-specific=APPLICATION` prints the same.
"""

import hashlib
import hmac
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gatewayd.errors import ConfigError

# Random, and fixed for gatewayd: changing it would rename every gateway.
APPLICATION = "bd2de5a26c6545d3ba50fe2ef4aab45c"
_MACHINE_ID_FILE = Path("/etc/machine-id")
# 32 digits and a line break, and enough more to recognise anything else.
_READ_BYTES = 64


@dataclass(frozen=True, slots=True)
class Host:
    """`machine_id`: the value of `${machine_id}`; None: derived from /etc/machine-id when needed.

    For a host other than this one (`is_here` is False) files that cannot be read are only warnings.
    """

    name: str
    machine_id: str | None = None
    is_here: bool = True

    @classmethod
    def here(cls) -> Self:
        """The machine this runs on."""
        return cls(socket.gethostname())

    def find_machine_id(self) -> str:
        """Return the value of `${machine_id}`. Raises ConfigError if this machine has none."""
        return self.machine_id or app_specific(_own_machine_id())


def app_specific(machine_id: str) -> str:
    """Derive gatewayd's identifier of a machine from that machine's own, both 32 hex digits."""
    digest = hmac.digest(bytes.fromhex(machine_id), bytes.fromhex(APPLICATION), hashlib.sha256)
    found = bytearray(digest[:16])
    found[6] = found[6] & 0x0F | 0x40  # marked as a random UUID, of version 4
    found[8] = found[8] & 0x3F | 0x80
    return found.hex()


def _own_machine_id() -> str:
    hint = "create one with systemd-machine-id-setup, or do not use ${machine_id}"
    try:
        with _MACHINE_ID_FILE.open("rb") as stream:
            text = stream.read(_READ_BYTES).decode("ascii", "replace").strip()
    except OSError as error:
        raise ConfigError(f"{_MACHINE_ID_FILE} cannot be read: {error.strerror}", hint=hint) from None
    if not re.fullmatch("[0-9a-f]{32}", text):
        raise ConfigError(f"{_MACHINE_ID_FILE} does not hold a machine id", hint=hint)
    return text
