"""Large and hostile inputs: twice the bytes are at most twice the work, counted, and memory is bounded."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from lab.containers import KEY, KEYS
from lab.parsers import peak_bytes, steps_of

from gatewayd.config.document import SIZE_LIMIT_BYTES, parse_document
from gatewayd.config.loader import settle
from gatewayd.control.parse import parse
from gatewayd.control.requests import MAX_REQUEST_BYTES
from gatewayd.errors import GatewaydError
from gatewayd.ota.container import open_container
from gatewayd.ota.keys import KeySet, parse_ota_key
from gatewayd.ota.patch import PatchEncoding, split_patch
from gatewayd.protocol.rcp.framing import StreamDeframer

MIB = 1 << 20
NOISE = random.Random(7).randbytes(MIB // 16)


def patch(data: bytes) -> None:
    split_patch(data, PatchEncoding.VARINT)


def encrypted(data: bytes) -> None:
    open_container(data, KEYS, allow_unsigned=True)


def plain(data: bytes) -> None:
    open_container(data, KeySet(), allow_unsigned=True)


def line(data: bytes) -> None:
    deframer = StreamDeframer(1034)
    for at in range(0, len(data), 1024):
        deframer.feed(data[at : at + 1024])


def configuration(data: bytes) -> None:
    settle(parse_document(Path("config.yaml"), data))


def tiny_chunks(size: int) -> bytes:
    return bytes(24) + (b"\x10\0" + bytes(17)) * (size // 19)


def many_roms(size: int) -> bytes:
    rom_bytes = size // 255 - 8
    rom = bytes(4) + rom_bytes.to_bytes(4, "little") + bytes(rom_bytes)
    return b"\x20\xf0\x1a\xf0" + bytes(8) + b"\xff\0\0\0" + rom * 255 + bytes(16)


@dataclass(frozen=True)
class Large:
    """An input of about `size_bytes`: a beginning, then the same again and again."""

    read: Callable[[bytes], object]
    size_bytes: int
    again: bytes
    start: bytes = b""
    end: bytes = b""
    # What it may take beside four times the input. A value of YAML has its place beside it.
    memory_bytes: int = 1 << 18

    def make(self, size_bytes: int) -> bytes:
        return self.start + self.again * ((size_bytes - len(self.start)) // len(self.again)) + self.end


def yaml(again: bytes, start: bytes = b"") -> Large:
    return Large(configuration, SIZE_LIMIT_BYTES, again, start, memory_bytes=16 * MIB)


def request(again: bytes, start: bytes = b"", end: bytes = b"") -> Large:
    return Large(parse, MAX_REQUEST_BYTES, again, start, end)


LARGE = {
    "patch without an end": Large(patch, MIB, b"\x80"),
    "noise for a container": Large(encrypted, MIB, NOISE[:1021]),
    "noise in the place of a key": Large(parse_ota_key, MIB, KEY.to_file()),
    "noise on the line": Large(line, MIB, NOISE),
    "short runs on the line": Large(line, MIB // 4, b"\1\0"),
    "no zeros on the line": Large(line, MIB, b"\xff"),
    "request of brackets": request(b"["),
    "request of wrong names": request(b"7,", b'{"v": 1, "op": "devices", "names": [', b"7]}"),
    "request of equal keys": request(b'"x": 1,', b'{"v": 1, "op": "status", ', b'"y": 1}'),
    "request of unknown keys": request(
        b",".join(b'"%d": 1' % n for n in range(6000)), b'{"v": 1, "op": "status", ', b"}"
    ),
    "YAML of brackets": yaml(b"["),
    "YAML of aliases": yaml(b"*a, ", b"a: &a [x]\nb: ["),
    "YAML of lists": yaml(b"- [a, b]\n"),
    "YAML of empty devices": yaml(b"- {}\n", b"mqtt: {host: a}\ndevices:\n"),
    "YAML with a long key": yaml(b"*a, ", b"x" * 1000 + b": ["),
    "YAML of equal keys": yaml(b"a: b\n"),
    "YAML of unknown keys": yaml(b"".join(b"a%d: b\n" % n for n in range(20_000))),
}


@pytest.mark.parametrize("name", LARGE)
def test_work_and_memory_are_bounded(name: str) -> None:
    large = LARGE[name]
    check(large.read, large.make(large.size_bytes // 2), large.make(large.size_bytes), large.memory_bytes)


@pytest.mark.parametrize("make", [tiny_chunks, many_roms])
def test_containers_of_many_parts(make: Callable[[int], bytes]) -> None:
    check(encrypted if make is tiny_chunks else plain, make(MIB // 2), make(MIB), 1 << 18)


def check(read: Callable[[bytes], object], half: bytes, whole: bytes, memory_bytes: int) -> None:
    def run(data: bytes) -> None:
        if read is line:
            read(data)
            return
        with pytest.raises(GatewaydError):
            read(data)

    assert steps_of(lambda: run(whole)) <= 2.2 * steps_of(lambda: run(half)) + 500
    assert peak_bytes(lambda: run(whole)) <= 4 * len(whole) + memory_bytes
