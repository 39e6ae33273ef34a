"""Keys as Sming's otatool writes them.

`ota.key` is 64 bytes in hex: the Ed25519 seed that signs, then the secretstream key that encrypts. A
gateway needs neither the seed nor that file: `verify.key.bin` (public) and `decrypt.key.bin` (secret) are
32 raw bytes each, derived from it. Nothing here puts key bytes into a message or a repr.
"""

import hashlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nacl.bindings import crypto_sign_seed_keypair, randombytes

from gatewayd.errors import ConfigError

KEY_BYTES = 32


@dataclass(frozen=True, slots=True, repr=False)
class OtaKey:
    """What the publisher holds: it signs and encrypts."""

    seed: bytes
    stream_key: bytes

    def __post_init__(self) -> None:
        _check_length(self.seed, "a signing seed")
        _check_length(self.stream_key, "a stream key")

    @property
    def verify_key(self) -> bytes:
        """The public Ed25519 key: the content of `verify.key.bin`."""
        return crypto_sign_seed_keypair(self.seed)[0]

    @property
    def decrypt_key(self) -> bytes:
        """The secretstream key: the content of `decrypt.key.bin`."""
        return self.stream_key

    def key_set(self, *, allow_shared_key: bool = False) -> "KeySet":
        """Make the part that a gateway needs."""
        return KeySet(self.decrypt_key, self.verify_key, allow_shared_key)

    def to_file(self) -> bytes:
        """Write the content of `ota.key`; no line end, because Sming's otatool would choke on it."""
        return (self.seed + self.stream_key).hex().encode()

    def __repr__(self) -> str:
        return f"OtaKey({self.key_set().fingerprint})"


@dataclass(frozen=True, slots=True, repr=False)
class KeySet:
    """What a gateway holds for an application. Either key may be missing."""

    decrypt_key: bytes | None = None
    verify_key: bytes | None = None
    allow_shared_key: bool = False

    def __post_init__(self) -> None:
        if self.decrypt_key is not None:
            _check_length(self.decrypt_key, "a decryption key")
        if self.verify_key is not None:
            _check_length(self.verify_key, "a verification key")

    @property
    def vouching_key(self) -> bytes | None:
        """The key that makes firmware genuine; the decryption key where there is no verification key."""
        return self.decrypt_key if self.verify_key is None else self.verify_key

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change when a key does, and tell nothing about it."""
        digest = hashlib.sha256(b"gatewayd key set\0")
        for key in (self.decrypt_key, self.verify_key):
            digest.update(b"\0" if key is None else b"\1" + key)
        return digest.hexdigest()[:16]

    def __repr__(self) -> str:
        return f"KeySet({self.fingerprint})"


def generate() -> OtaKey:
    """Make a new key from the system's random numbers."""
    return OtaKey(randombytes(KEY_BYTES), randombytes(KEY_BYTES))


def parse_ota_key(content: bytes) -> OtaKey:
    """Read the content of `ota.key`; white space around it is ignored. Raises ConfigError `bad_key`."""
    text = content.strip()
    try:
        raw = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        raw = b""
    if len(raw) != 2 * KEY_BYTES or len(text) != 4 * KEY_BYTES:
        raise ConfigError(
            f"not an OTA key: expected {4 * KEY_BYTES} hex digits, got {len(text)} bytes",
            code="bad_key",
            hint="`gatewayctl keygen` makes one",
        )
    return OtaKey(raw[:KEY_BYTES], raw[KEY_BYTES:])


def parse_raw_key(content: bytes, name: str) -> bytes:
    """Read `verify.key.bin` or `decrypt.key.bin`; `name` says which. Raises ConfigError `bad_key`."""
    _check_length(content, name)
    return content


def find_shared_keys(apps: Mapping[str, KeySet] | Iterable[tuple[str, KeySet]]) -> list[tuple[str, str]]:
    """Find application ids that share the key which vouches for their firmware, without leave to.

    Neither a signature nor encryption covers the application id, so anyone who can publish could give one
    application's firmware to the other's devices. Each key set of the two must say `allow_shared_key`.
    Returns pairs of ids in their given order; of a larger group only neighbours.
    """
    users: dict[tuple[bool, bytes], dict[str, bool]] = {}
    for app_id, keys in apps.items() if isinstance(apps, Mapping) else apps:
        key = keys.vouching_key
        if key is not None:
            allowed = users.setdefault((keys.verify_key is not None, key), {})
            allowed[app_id] = allowed.get(app_id, True) and keys.allow_shared_key
    return [
        (first, second)
        for allowed in users.values()
        for first, second in itertools.pairwise(allowed)
        if not (allowed[first] and allowed[second])
    ]


def _check_length(key: bytes, name: str) -> None:
    if len(key) == KEY_BYTES:
        return
    looks_like_ota_key = len(key.strip()) == 4 * KEY_BYTES
    raise ConfigError(
        f"{name} is {KEY_BYTES} raw bytes, got {len(key)}",
        code="bad_key",
        hint="this looks like an ota.key: name it as ota_key_file" if looks_like_ota_key else "",
    )
