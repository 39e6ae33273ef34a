"""The caller of an operation, independent of how its request arrived."""

from typing import Protocol


class Caller(Protocol):
    """A person or a program, and the file that came along with the request."""

    @property
    def name(self) -> str:
        """The user's name, as it is logged and stored."""

    @property
    def uid(self) -> int:
        """The user's number."""

    @property
    def pid(self) -> int:
        """The process that asks."""

    async def read_file(self, limit_bytes: int) -> bytes:
        """Read the file that came along, once.

        Raises RequestError `no_file`, FirmwareError `too_large` when it has more than `limit_bytes`.
        """
