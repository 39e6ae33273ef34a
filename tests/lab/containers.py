"""Sming's vectors, containers put together by hand, and gatewayctl run in this process."""

import contextlib
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import nacl.bindings as sodium

from gatewayd.cli.ctl import main
from gatewayd.ota.keys import parse_ota_key

VECTORS = Path(__file__).parents[1] / "vectors" / "sming"
KEY = parse_ota_key((VECTORS / "ota.key").read_bytes())
KEYS = KEY.key_set()
STREAM_HEADER = sodium.crypto_secretstream_xchacha20poly1305_HEADERBYTES
MESSAGE = sodium.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE
FINAL = sodium.crypto_secretstream_xchacha20poly1305_TAG_FINAL


@dataclass(frozen=True)
class Vector:
    """A container made by Sming's otatool, and what its manifest says."""

    file: str
    signed: bool
    encrypted: bool
    sha256: str
    roms: list[tuple[int, int, str]]
    patch: int
    varint: bytes

    @property
    def content(self) -> bytes:
        return (VECTORS / self.file).read_bytes()


def load_vectors() -> list[Vector]:
    return [
        Vector(
            entry["file"],
            entry["signed"],
            entry["encrypted"],
            entry["sha256"],
            [(rom["address"], rom["size"], rom["sha256"]) for rom in entry["roms"]],
            entry["patch"],
            bytes.fromhex(entry["varint"]),
        )
        for entry in json.loads((VECTORS / "manifest.json").read_text())
    ]


SIGNED_ENCRYPTED = (VECTORS / "signed_encrypted.ota").read_bytes()
SIGNED = (VECTORS / "signed.ota").read_bytes()
PLAIN = (VECTORS / "plain.ota").read_bytes()


def encrypt_chunks(chunks: Sequence[tuple[bytes, int]]) -> bytes:
    """Encrypt each plain chunk with the tag beside it, whatever the format's rules say."""
    state = sodium.crypto_secretstream_xchacha20poly1305_state()
    out = sodium.crypto_secretstream_xchacha20poly1305_init_push(state, KEY.stream_key)
    for plain, tag in chunks:
        cipher = sodium.crypto_secretstream_xchacha20poly1305_push(state, plain, tag=tag)
        out += (len(cipher) - 1).to_bytes(2, "little") + cipher
    return out


def split_chunks(encrypted: bytes) -> list[bytes]:
    """Return the stream header, then each chunk with its length before it."""
    parts, offset = [encrypted[:STREAM_HEADER]], STREAM_HEADER
    while offset < len(encrypted):
        end = offset + 3 + int.from_bytes(encrypted[offset : offset + 2], "little")
        parts.append(encrypted[offset:end])
        offset = end
    return parts


def flip_bit(content: bytes, bit: int) -> bytes:
    flipped = bytearray(content)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    exit_code: int
    out: str
    err: str


def gatewayctl(*args: str | Path) -> Ran:
    """Run gatewayctl through its real entry point."""
    out, err, exit_code = io.StringIO(), io.StringIO(), 0
    argv = ["gatewayctl", *map(str, args)]
    with (
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as exit_:
            exit_code = int(exit_.code or 0)
    return Ran(exit_code, out.getvalue(), err.getvalue())
