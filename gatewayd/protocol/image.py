"""What an image is to a device: the name by which its protocol tells one from another."""

from dataclasses import dataclass
from typing import Self

from gatewayd.errors import FirmwareError

# Of the whole file, as it is sent.
SHA256 = "sha256"


@dataclass(frozen=True, slots=True)
class ImageId:
    """A digest and what it was made by. Two of different algorithms say nothing about each other."""

    algorithm: str
    digest: bytes

    @classmethod
    def of_file(cls, sha256: bytes) -> Self:
        """Name an image by the SHA-256 of its file."""
        return cls(SHA256, sha256)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote. Raises ValueError."""
        algorithm, colon, digest = text.partition(":")
        if not (algorithm and colon):
            raise ValueError(f"not an image's name: {text[:80]!r}")
        return cls(algorithm, bytes.fromhex(digest))

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.digest.hex()}"


def check_own_version(own: str, claimed: str) -> None:
    """Raise FirmwareError `image_version_differs` unless an image carries the version claimed for it."""
    if own != claimed:
        raise FirmwareError(
            f"the image itself says that it is {own}, topic and patch header say {claimed}",
            code="image_version_differs",
            hint=f"publish it as {own}, or build it as {claimed}",
        )
