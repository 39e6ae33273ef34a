"""What systemd is told, and what it asks for: as much of sd_notify(3) as a daemon needs.

Without systemd, or when it does not listen, nothing is said and nothing fails: no update depends on it.
"""

import os
import socket
import time
from collections.abc import Mapping
from typing import Self

# systemd takes 4 KiB for a whole message; a line that is longer is not read by anybody.
LONGEST_STATUS = 400
# What is not repeated must arrive: a manager that is busy for a moment is waited for.
PATIENCE_S = 1.0


class Notifier:
    """The service that systemd takes us for. `watchdog_s`: it wants to hear of us so often; None: never."""

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        self._address = address
        self.watchdog_s = watchdog_s
        self._status = ""

    @classmethod
    def of(cls, environment: Mapping[str, str], pid: int) -> Self:
        """Read what systemd left in the environment of the process `pid`."""
        usec = environment.get("WATCHDOG_USEC", "")
        is_meant = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        watchdog_s = int(usec) / 1e6 if usec.isdecimal() and is_meant else None
        return cls(environment.get("NOTIFY_SOCKET"), watchdog_s or None)

    def ready(self) -> None:
        """Updates can begin; or a reload is over, whatever came of it."""
        self._tell("READY=1", PATIENCE_S)

    def reloading(self) -> None:
        """The configuration is read again, from now until `ready`."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}", PATIENCE_S)

    def stopping(self) -> None:
        """No more updates."""
        self._tell("STOPPING=1")

    def feed_watchdog(self) -> None:
        """Say that all is well."""
        self._tell("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Show a line in `systemctl status`; the same one again is not sent."""
        line = " ".join(text.split())[:LONGEST_STATUS]
        if line != self._status and self._tell(f"STATUS={line}"):
            self._status = line

    def _tell(self, message: str, patience_s: float = 0.0) -> bool:
        """Return whether it was taken; a manager that is stuck must not hold up the loop."""
        if not self._address:
            return False
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(patience_s)
                sender.sendto(message.encode(errors="replace"), address)
        except OSError:
            return False
        return True


def from_environment() -> Notifier:
    """Return the service that this process is."""
    return Notifier.of(os.environ, os.getpid())
