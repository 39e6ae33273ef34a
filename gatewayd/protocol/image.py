"""What an image is to a device: the name by which its protocol tells one from another."""

from dataclasses import dataclass
from typing import Self

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
