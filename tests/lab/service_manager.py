"""The receiving end of sd_notify, on a real socket."""

import socket
from typing import Self


class Manager:
    """What a service manager hears; use it in a `with`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(60)
        self._socket.bind(address.replace("@", "\0", 1))

    def heard(self, *passed_over: str) -> str:
        """Return the next message that does not begin with one of `passed_over`."""
        while True:
            message = self._socket.recv(8192).decode()
            if not message.startswith(passed_over or "\n"):
                return message

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
