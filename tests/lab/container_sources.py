"""Good containers of every kind, for tests to spoil."""

import itertools
import random
from dataclasses import dataclass, field
from functools import cached_property

from gatewayd.ota.container import Rom, build, decrypt, encrypt, parse
from gatewayd.ota.keys import KeySet, OtaKey
from lab.containers import KEY, KEYS, load_vectors

OTHER = OtaKey(bytes(range(32)), bytes(range(32, 64)))
TIMESTAMP_MS = 3_900_000_000_000
HEADER, ROM_HEADER, SIGNATURE, MD5 = 16, 8, 64, 16


@dataclass(frozen=True)
class Source:
    """A good container."""

    name: str
    data: bytes = field(repr=False)
    signed: bool
    encrypted: bool

    @property
    def keys(self) -> KeySet:
        if self.signed:
            return KEYS
        return KeySet(KEY.decrypt_key) if self.encrypted else KeySet()

    @property
    def altered(self) -> str:
        """The code for a content that is not what was vouched for."""
        return "bad_signature" if self.signed else "bad_md5"

    @cached_property
    def plain(self) -> bytes:
        return bytes(decrypt(self.data, KEY.decrypt_key)) if self.encrypted else self.data

    @cached_property
    def roms(self) -> tuple[Rom, ...]:
        return parse(self.plain, KEY.verify_key).roms

    @property
    def trailer(self) -> int:
        return SIGNATURE if self.signed else MD5

    @property
    def places(self) -> list[int]:
        """Where each ROM's header begins, and where the trailer does."""
        sizes = [ROM_HEADER + len(rom.content) for rom in self.roms]
        return list(itertools.accumulate(sizes, initial=HEADER))

    def sealed(self, plain: bytes) -> bytes:
        return encrypt(plain, KEY.stream_key) if self.encrypted else plain


def sources() -> list[Source]:
    """Sming's vectors, and eight of our own: signed or MD5, encrypted or not, one ROM or two."""
    found = [Source(one.file, one.content, one.signed, one.encrypted) for one in load_vectors()]
    noise = random.Random(4)
    roms = [Rom(0x2000, noise.randbytes(3000)), Rom(0x102000, noise.randbytes(2500))]
    for signed, encrypted, count in itertools.product((True, False), (True, False), (1, 2)):
        plain = build(roms[:count], TIMESTAMP_MS, KEY.seed if signed else None)
        name = f"{'signed' if signed else 'md5'}, {'encrypted' if encrypted else 'plain'}, {count}"
        found.append(Source(name, encrypt(plain, KEY.stream_key) if encrypted else plain, signed, encrypted))
    return found
