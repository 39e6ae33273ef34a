"""Sming's OTA containers, read and written.

Plain, little-endian::

    magic u32 | build timestamp u64, ms since 1900 | ROM count u8 | 3 zero bytes
    per ROM: address u32 | size u32 | content
    Ed25519ph signature (64 bytes) or MD5 (16 bytes) of everything before it, as the magic says

Encrypted: a libsodium secretstream of the plain form. Its header (24 bytes), then chunks `u16 length - 1 |
ciphertext`, 2,048 bytes of ciphertext each but the last, which is tagged FINAL. libsodium detects neither a
stream that ends early at a chunk boundary nor data after FINAL, so `decrypt` demands exactly one FINAL, at
the end.

The first four bytes show whether a container is encrypted: a plain one has one of two magics there. A key set
with a verification key demands a signature; one with only a decryption key demands encryption, which is then
the only authentication; `allow_unsigned` lifts both demands. A signed container that no key can verify is
refused.

We write the timestamp in UTC. Sming's otatool writes its machine's local time, up to 14 hours off.
"""

import hashlib
import hmac
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import nacl.bindings as sodium
import nacl.exceptions

from gatewayd.errors import FirmwareError
from gatewayd.ota import BytesLike
from gatewayd.ota.keys import KeySet
from gatewayd.timestamps import utc_text

MAGIC_SIGNED = 0xF01AF02A
MAGIC_UNSIGNED = 0xF01AF020

EPOCH = datetime(1900, 1, 1, tzinfo=UTC)
# The last time a calendar can show. A later one comes from a broken clock, and as a rollback mark would lock
# a device forever.
MAX_TIMESTAMP_MS = (datetime.max.replace(tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)

MAX_ROMS = 0xFF
_U32_LIMIT = 2**32

_HEADER = struct.Struct("<IQB3s")
_ROM_HEADER = struct.Struct("<II")
_MD5_BYTES = 16
_SIGNATURE_BYTES = 64
# A message with one image of one byte, after a patch version of one.
SMALLEST_SIGNED_BYTES = 1 + _HEADER.size + _ROM_HEADER.size + 1 + _SIGNATURE_BYTES

# What otatool uses, and therefore a size that every Sming device can buffer.
CHUNK_BYTES = 2048
_TAG_BYTES = sodium.crypto_secretstream_xchacha20poly1305_ABYTES
_STREAM_HEADER_BYTES = sodium.crypto_secretstream_xchacha20poly1305_HEADERBYTES
_FINAL = sodium.crypto_secretstream_xchacha20poly1305_TAG_FINAL
_MESSAGE = sodium.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE

# PyNaCl hashes only `bytes`: a view of 16 MiB is hashed in pieces to avoid one large copy.
_HASH_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Rom:
    """An image for one flash address."""

    address: int
    content: memoryview | bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Container:
    """The content of a container whose signature or MD5 has been verified.

    `sha256` is that of the plain form, so that encrypting it again does not change it.
    """

    timestamp_ms: int
    roms: tuple[Rom, ...]
    signed: bool
    encrypted: bool
    sha256: bytes = b""

    @property
    def authenticated_timestamp_ms(self) -> int | None:
        """The timestamp if a key vouches for it; anybody can forge that of a plain, unsigned container."""
        return self.timestamp_ms if self.signed or self.encrypted else None


def timestamp_of(moment: datetime) -> int:
    """Milliseconds since 1900, UTC, as a container carries them."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def moment_of(timestamp_ms: int) -> datetime:
    """Undo `timestamp_of`."""
    return EPOCH + timedelta(milliseconds=timestamp_ms)


def built_at(timestamp_ms: int) -> str:
    """Write a build timestamp for people: UTC, ISO 8601, milliseconds."""
    if not 0 <= timestamp_ms <= MAX_TIMESTAMP_MS:  # a mark that a damaged disk has changed
        return f"{timestamp_ms} ms since 1900"
    return utc_text(moment_of(timestamp_ms), "milliseconds")


def open_container(data: BytesLike, keys: KeySet, *, allow_unsigned: bool) -> Container:
    """Decrypt if necessary, parse, and check the authentication that `keys` demand. Raises FirmwareError."""
    encrypted = not _has_magic(data)
    if encrypted and keys.decrypt_key is None:
        raise _no_magic(data)
    plain = data if keys.decrypt_key is None or not encrypted else decrypt(data, keys.decrypt_key)
    container = replace(parse(plain, keys.verify_key), encrypted=encrypted)
    if allow_unsigned or container.signed:
        return container
    if keys.verify_key is not None:
        raise FirmwareError(
            "the container is not signed, and its key set has a verification key",
            code="unsigned",
            hint="sign it, or set allow_unsigned: true for the device",
        )
    if keys.decrypt_key is not None and not encrypted:
        raise FirmwareError(
            "the container is neither signed nor encrypted, and its key set has a decryption key",
            code="not_encrypted",
            hint="encrypt it, or set allow_unsigned: true for the device",
        )
    return container


def parse(plain: BytesLike, verify_key: bytes | None) -> Container:
    """Read a plain container, check its signature or MD5. ROMs are views of `plain`. Raises FirmwareError."""
    view = memoryview(plain).toreadonly()
    signed, timestamp_ms, count = _parse_header(view)
    roms, end = _parse_roms(view, count)
    trailer_bytes = _SIGNATURE_BYTES if signed else _MD5_BYTES
    name = "signature" if signed else "MD5"
    if trailer_bytes > len(view) - end:
        raise _truncated(f"its {name} takes {trailer_bytes} bytes at offset {end}", len(view))
    if trailer_bytes < len(view) - end:
        raise FirmwareError(
            f"the container should end after its {name}, at {end + trailer_bytes} bytes, and has {len(view)}",
            code="trailing_bytes",
        )
    if signed:
        _check_signature(view[:end], bytes(view[end:]), verify_key)
    else:
        _check_md5(view[:end], bytes(view[end:]))
    return Container(timestamp_ms, roms, signed, encrypted=False, sha256=hashlib.sha256(view).digest())


def peek_roms(plain: BytesLike) -> tuple[Rom, ...]:
    """Return the ROMs of a plain container, without a check of its signature or MD5. Raises FirmwareError."""
    view = memoryview(plain).toreadonly()
    _, _, count = _parse_header(view)
    return _parse_roms(view, count)[0]


def build(roms: Sequence[Rom], timestamp_ms: int, signing_seed: bytes | None) -> bytes:
    """Write a plain container, signed if there is a seed. Raises FirmwareError for what it cannot hold."""
    _check_buildable(roms, timestamp_ms)
    magic = MAGIC_UNSIGNED if signing_seed is None else MAGIC_SIGNED
    parts: list[BytesLike] = [_HEADER.pack(magic, timestamp_ms, len(roms), bytes(3))]
    for rom in roms:
        parts += [_ROM_HEADER.pack(rom.address, len(rom.content)), rom.content]
    if signing_seed is None:
        digest = hashlib.md5(usedforsecurity=False)
        for part in parts:
            digest.update(part)
        parts.append(digest.digest())
    else:
        secret_key = sodium.crypto_sign_seed_keypair(signing_seed)[1]
        parts.append(sodium.crypto_sign_ed25519ph_final_create(_prehash(parts), secret_key))
    return b"".join(parts)


def encrypt(plain: BytesLike, stream_key: bytes) -> bytes:
    """Wrap a plain container as otatool does, under a new random stream header."""
    state = sodium.crypto_secretstream_xchacha20poly1305_state()
    out = bytearray(sodium.crypto_secretstream_xchacha20poly1305_init_push(state, stream_key))
    view = memoryview(plain)
    step = CHUNK_BYTES - _TAG_BYTES
    for start in range(0, len(view), step):
        tag = _MESSAGE if start + step < len(view) else _FINAL
        chunk = sodium.crypto_secretstream_xchacha20poly1305_push(
            state, bytes(view[start : start + step]), tag=tag
        )
        out += (len(chunk) - 1).to_bytes(2, "little")
        out += chunk
    return bytes(out)


def decrypt(data: BytesLike, stream_key: bytes) -> memoryview:
    """Unwrap an encrypted container: every chunk genuine and in order, with one FINAL at the end.

    Raises FirmwareError `decrypt_failed` (first chunk: most likely another key), `bad_tag` (a later one),
    `truncated`, `no_final` or `second_final`.
    """
    view = memoryview(data)
    state = sodium.crypto_secretstream_xchacha20poly1305_state()
    plain = bytearray()
    for number, (start, end) in enumerate(_chunk_spans(view), start=1):
        if number == 1:
            header = bytes(view[:_STREAM_HEADER_BYTES])
            sodium.crypto_secretstream_xchacha20poly1305_init_pull(state, header, stream_key)
        try:
            message, tag = sodium.crypto_secretstream_xchacha20poly1305_pull(state, bytes(view[start:end]))
        except nacl.exceptions.CryptoError as error:
            raise _not_genuine(number, start) from error
        plain += message
        if tag == _FINAL:
            _check_end(end, len(view))
            return memoryview(plain).toreadonly()
    raise FirmwareError(
        f"the encrypted container ends at {len(view)} bytes without a chunk marked final: its end is missing",
        code="no_final",
    )


def _chunk_spans(view: memoryview) -> Iterator[tuple[int, int]]:
    """Yield start and end of each chunk's ciphertext. Raises FirmwareError `truncated`, `bad_tag`."""
    offset, size = _STREAM_HEADER_BYTES, len(view)
    if offset >= size:
        raise _truncated(f"an encrypted one begins with {offset} bytes of header and a chunk", size)
    while offset < size:
        if size - offset < 2:  # noqa: PLR2004 - the length field
            raise _truncated(f"a chunk's length takes 2 bytes at offset {offset}", size)
        length = int.from_bytes(view[offset : offset + 2], "little") + 1
        offset += 2
        if length > size - offset:
            raise _truncated(f"a chunk takes {length} bytes at offset {offset}", size)
        if length < _TAG_BYTES:
            raise FirmwareError(
                f"the chunk at offset {offset} has {length} bytes, expected at least {_TAG_BYTES}",
                code="bad_tag",
            )
        yield offset, offset + length
        offset += length


def _check_end(end: int, size: int) -> None:
    if end != size:
        raise FirmwareError(
            f"the encrypted container should end after its final chunk, at {end} bytes, and has {size}",
            code="second_final",
        )


def _parse_header(view: memoryview) -> tuple[bool, int, int]:
    """Return whether it is signed, the timestamp, and the number of ROMs."""
    if _HEADER.size > len(view):
        raise _truncated(f"its header takes {_HEADER.size} bytes", len(view))
    magic, timestamp_ms, count, reserved = _HEADER.unpack_from(view)
    if magic not in (MAGIC_SIGNED, MAGIC_UNSIGNED):
        raise _bad_magic(view)
    if any(reserved):
        raise FirmwareError(
            f"the container's reserved bytes should be 000000, got {reserved.hex()}", code="reserved_not_zero"
        )
    if timestamp_ms > MAX_TIMESTAMP_MS:
        raise FirmwareError(
            f"the container's build timestamp is {timestamp_ms} ms since 1900, expected at most"
            f" {MAX_TIMESTAMP_MS}, which is the end of the year 9999",
            code="bad_timestamp",
        )
    if not count:
        raise FirmwareError("the container says it has 0 ROMs, expected 1 to 255", code="no_roms")
    return magic == MAGIC_SIGNED, timestamp_ms, count


def _parse_roms(view: memoryview, count: int) -> tuple[tuple[Rom, ...], int]:
    """Return the ROMs and the offset after them."""
    roms: list[Rom] = []
    offset = _HEADER.size
    for number in range(1, count + 1):
        if _ROM_HEADER.size > len(view) - offset:
            raise _truncated(
                f"the header of ROM {number} of {count} takes 8 bytes at offset {offset}", len(view)
            )
        address, size = _ROM_HEADER.unpack_from(view, offset)
        offset += _ROM_HEADER.size
        if size > len(view) - offset:
            raise FirmwareError(
                f"ROM {number} of {count} says it has {size} bytes, and {len(view) - offset} are left",
                code="rom_too_large",
                hint="if the size is right, the container was cut short",
            )
        if not size:
            raise FirmwareError(f"ROM {number} of {count} at {address:#x} is empty", code="empty_rom")
        roms.append(Rom(address, view[offset : offset + size]))
        offset += size
    return tuple(roms), offset


def _check_signature(body: memoryview, signature: bytes, verify_key: bytes | None) -> None:
    if verify_key is None:
        raise FirmwareError(
            "the container is signed, and the key set has no verification key to verify it",
            code="no_verify_key",
            hint="name verify.key.bin as verify_key_file in the key set",
        )
    try:
        sodium.crypto_sign_ed25519ph_final_verify(_prehash([body]), signature, verify_key)
    except nacl.exceptions.BadSignatureError as error:
        raise FirmwareError(
            "the container's signature does not match the key set's verification key",
            code="bad_signature",
            hint="it was signed with another key, or altered in transit",
        ) from error


def _check_md5(body: memoryview, expected: bytes) -> None:
    got = hashlib.md5(body, usedforsecurity=False).digest()
    if not hmac.compare_digest(got, expected):
        raise FirmwareError(
            f"the container's MD5 is {got.hex()}, expected {expected.hex()}: it was damaged in transit",
            code="bad_md5",
        )


def _prehash(parts: Sequence[BytesLike]) -> sodium.crypto_sign_ed25519ph_state:
    state = sodium.crypto_sign_ed25519ph_state()
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), _HASH_PIECE_BYTES):
            sodium.crypto_sign_ed25519ph_update(state, bytes(view[start : start + _HASH_PIECE_BYTES]))
    return state


def _check_buildable(roms: Sequence[Rom], timestamp_ms: int) -> None:
    if not roms:
        raise FirmwareError("a container needs at least one ROM", code="no_roms")
    if len(roms) > MAX_ROMS:
        raise FirmwareError(
            f"a container holds at most {MAX_ROMS} ROMs, got {len(roms)}", code="too_many_roms"
        )
    if not 0 <= timestamp_ms <= MAX_TIMESTAMP_MS:
        raise FirmwareError(
            f"timestamp {timestamp_ms} is outside 0..{MAX_TIMESTAMP_MS} ms since 1900", code="bad_timestamp"
        )
    for rom in roms:
        if not 0 <= rom.address < _U32_LIMIT:
            raise FirmwareError(f"ROM address {rom.address:#x} is outside 0..0xffffffff", code="bad_address")
        if not rom.content:
            raise FirmwareError(f"the ROM for {rom.address:#x} is empty", code="empty_rom")
        if len(rom.content) >= _U32_LIMIT:
            raise FirmwareError(f"the ROM for {rom.address:#x} has 4 GiB or more", code="rom_too_large")


def _has_magic(data: BytesLike) -> bool:
    return int.from_bytes(memoryview(data)[:4], "little") in (MAGIC_SIGNED, MAGIC_UNSIGNED)


def _no_magic(data: BytesLike) -> FirmwareError:
    """Distinguish an encrypted container without a key from something that is not a container."""
    try:
        for _ in _chunk_spans(memoryview(data)):
            pass
    except FirmwareError:
        return _bad_magic(data)
    return FirmwareError(
        "the container is encrypted, and the key set has no decryption key",
        code="no_decrypt_key",
        hint="name decrypt.key.bin as decrypt_key_file in the key set",
    )


def _bad_magic(data: BytesLike) -> FirmwareError:
    return FirmwareError(
        f"this is not an OTA container: it begins with {bytes(memoryview(data)[:4]).hex()}, expected"
        " 2af01af0 (signed), 20f01af0 (unsigned), or an encrypted stream",
        code="bad_magic",
        hint="a bare image? Then set payload: standard",
    )


def _truncated(need: str, size: int) -> FirmwareError:
    return FirmwareError(f"the container ends too early: {need}, and it has {size}", code="truncated")


def _not_genuine(number: int, offset: int) -> FirmwareError:
    if number == 1:
        return FirmwareError(
            "the container does not decrypt with the key set's decryption key, and does not begin with the"
            " magic of a plain one",
            code="decrypt_failed",
            hint="it was encrypted with another key, altered in transit, or is not a container",
        )
    return FirmwareError(
        f"chunk {number} of the encrypted container, at offset {offset}, was altered or is out of order",
        code="bad_tag",
    )
