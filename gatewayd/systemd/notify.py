"""Notifications to systemd: the part of sd_notify(3) that a daemon needs.

Without systemd, or if it does not listen, nothing is sent and nothing fails: no update depends on it.
"""

import os
import socket
import time
from collections.abc import Mapping
from typing import Self

# systemd accepts messages of up to 4 KiB, but nobody reads a longer line than this.
LONGEST_STATUS = 400
# Messages that are not repeated must arrive, so wait this long for a manager that is busy.
PATIENCE_S = 1.0


class Notifier:
    """This process as a systemd service. `watchdog_s`: how often systemd expects a ping; None: never."""

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        self._address = address
        self.watchdog_s = watchdog_s
        self._status = ""

    @classmethod
    def of(cls, environment: Mapping[str, str], pid: int) -> Self:
        """Read the settings that systemd put into the environment of the process `pid`."""
        usec = environment.get("WATCHDOG_USEC", "")
        is_meant = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        watchdog_s = int(usec) / 1e6 if usec.isdecimal() and is_meant else None
        return cls(environment.get("NOTIFY_SOCKET"), watchdog_s or None)

    def ready(self) -> None:
        """Report that start-up is complete, or that a reload has ended, successful or not."""
        self._send("READY=1", PATIENCE_S)

    def reloading(self) -> None:
        """Report that a reload has begun; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}", PATIENCE_S)

    def stopping(self) -> None:
        """Report that the daemon is stopping."""
        self._send("STOPPING=1")

    def ping_watchdog(self) -> None:
        """Report that all is well."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Show a line in `systemctl status`; an unchanged one is not sent again."""
        line = " ".join(text.split())[:LONGEST_STATUS]
        if line != self._status and self._send(f"STATUS={line}"):
            self._status = line

    def _send(self, message: str, patience_s: float = 0.0) -> bool:
        """Send a message; return whether it was accepted. A manager that hangs must not block the loop."""
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
    """Return the notifier for this process."""
    return Notifier.of(os.environ, os.getpid())
