"""The caller of an operation, independent of how its request arrived."""

from typing import Protocol


class Caller(Protocol):
    """The person or program behind a request, and the file attached to it."""

    @property
    def name(self) -> str:
        """The user's name, as it is logged and stored."""

    @property
    def uid(self) -> int:
        """The user's numeric id."""

    @property
    def pid(self) -> int:
        """The requesting process."""

    async def read_file(self, limit_bytes: int) -> bytes:
        """Read the attached file; call it once.

        Raises RequestError `no_file`, FirmwareError `too_large` if it has more than `limit_bytes`.
        """
