"""The machine a configuration is for: what `${hostname}` and `${machine_id}` stand for.

/etc/machine-id is to be kept confidential, says machine-id(5), and this goes into topics and client ids. So
it is hashed with an identifier of gatewayd's, as sd_id128_get_machine_app_specific(3) does it:
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

# Drawn once, for gatewayd; another would give every gateway another name.
APPLICATION = "bd2de5a26c6545d3ba50fe2ef4aab45c"
_MACHINE_ID_FILE = Path("/etc/machine-id")
# Its 32 digits and the end of the line, and enough more to see that it is something else.
_READ_BYTES = 64


@dataclass(frozen=True, slots=True)
class Host:
    """`machine_id` as `${machine_id}` gives it; None: derived from this machine's when it is asked for.

    Of a host that is not `is_here` the files need not be there.
    """

    name: str
    machine_id: str | None = None
    is_here: bool = True

    @classmethod
    def here(cls) -> Self:
        """The machine this runs on."""
        return cls(socket.gethostname())

    def find_machine_id(self) -> str:
        """Return what `${machine_id}` stands for. Raises ConfigError when this machine has none."""
        return self.machine_id or app_specific(_own_machine_id())


def app_specific(machine_id: str) -> str:
    """Derive gatewayd's identifier of a machine from that machine's own, both 32 hex digits."""
    digest = hmac.digest(bytes.fromhex(machine_id), bytes.fromhex(APPLICATION), hashlib.sha256)
    found = bytearray(digest[:16])
    found[6] = found[6] & 0x0F | 0x40  # marked as a random UUID, of version 4
    found[8] = found[8] & 0x3F | 0x80
    return found.hex()


def _own_machine_id() -> str:
    hint = "systemd-machine-id-setup makes one; or do without ${machine_id}"
    try:
        with _MACHINE_ID_FILE.open("rb") as stream:
            text = stream.read(_READ_BYTES).decode("ascii", "replace").strip()
    except OSError as error:
        raise ConfigError(f"{_MACHINE_ID_FILE} cannot be read: {error.strerror}", hint=hint) from None
    if not re.fullmatch("[0-9a-f]{32}", text):
        raise ConfigError(f"{_MACHINE_ID_FILE} holds no machine id", hint=hint)
    return text
