"""The journal's native protocol: log entries as fields, so that `journalctl DEVICE=pump-1` finds them.

A message is one datagram of `NAME=value` lines. A value that contains a line break is sent with its length
instead (`NAME`, a line break, 64 bits little-endian, the value, a line break). A message too large for a
datagram goes into a sealed memory file, whose descriptor is sent. https://systemd.io/JOURNAL_NATIVE_PROTOCOL
"""

import errno
import fcntl
import json
import os
import re
import socket
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

import structlog

SOCKET = "/run/systemd/journal/socket"
IDENTIFIER = "gatewayd"
# A journal that hangs must not delay the devices for long.
PATIENCE_S = 1.0
PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}
# Reserved field names; a log key by one of these gets an underscore appended.
_OURS = ("MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER")
_LONGEST_NAME = 64
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_SAID = ("event", "level", "reason", "exception")


def is_behind(stream: TextIO, stated: str | None) -> bool:
    """Whether `stream` goes to the journal; `stated` is $JOURNAL_STREAM, its device and inode."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return stated == f"{status.st_dev}:{status.st_ino}"


class Journal:
    """Sends log entries to the journal; to `fallback` while the journal does not accept them."""

    def __init__(self, fallback: TextIO, address: str = SOCKET) -> None:
        self._fallback = fallback
        self._address = address

    def send(self, **fields: str) -> None:
        """Send an entry. structlog calls this under the name of each level."""
        content = frame(fields.items())
        try:
            self._send(content)
        except OSError:
            text = fields["MESSAGE"].encode(errors="replace").decode()
            print(f"<{fields['PRIORITY']}>{text}", file=self._fallback, flush=True)

    debug = info = warning = error = critical = send

    def _send(self, content: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(PATIENCE_S)
            sender.connect(self._address)
            try:
                sender.send(content)
            except OSError as error:
                if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                    raise
                with os.fdopen(os.memfd_create(IDENTIFIER, os.MFD_ALLOW_SEALING), "wb") as file:
                    file.write(content)
                    file.flush()
                    fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
                    socket.send_fds(sender, [], [file.fileno()])


def frame(fields: Iterable[tuple[str, str]]) -> bytes:
    """Encode fields as a datagram."""
    return b"".join(_field(name.encode(), value.encode(errors="replace")) for name, value in fields)


def as_fields(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> tuple[tuple[()], dict[str, str]]:
    """Turn a log entry into journal fields; the last of structlog's processors."""
    fields = {
        "MESSAGE": sentence(event),
        "PRIORITY": str(PRIORITIES[event["level"]]),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
    }
    named = {key: value for key, value in event.items() if key not in ("event", "level", "exception")}
    return (), fields | {field_name(key): _text(value) for key, value in named.items()}


def sentence(event: Mapping[str, Any]) -> str:
    """Format an entry as one line for people; journalctl shows only the message by default."""
    reason = f": {event['reason']}" if "reason" in event else ""
    more = [f"{key}={_text(value)}" for key, value in event.items() if key not in _SAID]
    trace = f"\n{event['exception']}" if "exception" in event else ""
    return " ".join([f"{event['event']}{reason}", *more]) + trace


def field_name(key: str) -> str:
    """Return a valid journal field name: A-Z, digits and underscores, a letter first, at most 64."""
    name = re.sub(r"[^A-Z0-9_]", "_", key.upper())
    name = name if re.match(r"[A-Z]", name) else f"X{name}"
    return f"{name}_" if name in _OURS else name[:_LONGEST_NAME]


def _field(name: bytes, value: bytes) -> bytes:
    if b"\n" in value:
        return b"%s\n%s%s\n" % (name, len(value).to_bytes(8, "little"), value)
    return b"%s=%s\n" % (name, value)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
