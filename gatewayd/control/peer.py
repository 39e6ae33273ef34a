"""The client at the other end of a control connection, and the file descriptors it sent."""

import asyncio
import os
import pwd
import socket
import stat
import struct
from dataclasses import dataclass, field
from typing import Self

from gatewayd.errors import FirmwareError, RequestError

_UCRED = struct.Struct("3i")


@dataclass
class Peer:
    """A `Caller` at a Unix socket; `close` closes the files that were not read."""

    pid: int = 0
    uid: int = 0
    files: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, connection: socket.socket) -> Self:
        """Ask the kernel who is at the other end."""
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid, uid, _ = _UCRED.unpack(credentials)
        return cls(pid, uid)

    @property
    def name(self) -> str:
        """The user's name, or the uid if it has none."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return f"uid {self.uid}"

    async def read_file(self, limit_bytes: int) -> bytes:
        """See Caller."""
        if not self.files:
            raise RequestError(
                "no file was attached to the request", code="no_file", hint="see docs/control.md"
            )
        return await asyncio.to_thread(_read_and_close, self.files.pop(0), limit_bytes)

    def close(self) -> None:
        """Close attached files that were not read."""
        for descriptor in self.files:
            os.close(descriptor)
        self.files.clear()


def _read_and_close(descriptor: int, limit: int) -> bytes:
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise RequestError(
                "what was attached is not a regular file", code="no_file", hint="copy it into a file first"
            )
        if about.st_size > limit:
            raise FirmwareError(
                f"the file has {about.st_size} bytes, more than {limit}",
                code="too_large",
                hint="mqtt.max_message_mib sets the limit",
            )
        return os.pread(descriptor, limit, 0)
    except OSError as error:
        raise RequestError(
            f"the attached file cannot be read: {error.strerror}",
            code="no_file",
            hint="open it for reading",
        ) from None
    finally:
        os.close(descriptor)
