"""Good containers, and what can be done to them: by class, each mutant with the codes that may refuse it.

Deterministic. The classes of the plain form are tried on encrypted containers, too: the mutant is encrypted
anew with the right stream key, as somebody could who took that key out of a device. All are judged by
`Source.keys`, the least keys with which the unchanged container is accepted.
"""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import nacl.bindings as sodium

from gatewayd.ota.container import (
    CHUNK_BYTES,
    MAGIC_SIGNED,
    MAGIC_UNSIGNED,
    MAX_TIMESTAMP_MS,
    build,
    encrypt,
)
from lab.container_sources import HEADER, OTHER, ROM_HEADER, SIGNATURE, TIMESTAMP_MS, Source, sources
from lab.containers import FINAL, KEY, MESSAGE, STREAM_HEADER, encrypt_chunks, flip_bit, split_chunks

PLAIN_CHUNK = CHUNK_BYTES - 17
# The order of Ed25519's group: S and S + ORDER are the same scalar, and only the first may pass.
ORDER = 2**252 + 27742317777372353535851937790883648493
EXTRAS = (1, 2, 3, 16, 17, 19, 24, 48, 64, 100, CHUNK_BYTES + 2, 65_536, 1 << 20)


@dataclass(frozen=True)
class Mutant:
    """A bad container; `what` was done to which."""

    source: Source
    what: str
    data: bytes = field(repr=False)
    codes: frozenset[str]


Class = Callable[[Source], Iterator[Mutant]]


def _inside(source: Source, what: str, plain: bytes, *codes: str) -> Mutant:
    return Mutant(source, what, source.sealed(plain), frozenset(codes))


def _outside(source: Source, what: str, data: bytes, *codes: str) -> Mutant:
    return Mutant(source, what, data, frozenset(codes))


# -- the plain form


def magic(source: Source) -> Iterator[Mutant]:
    """Every bit of the first four bytes; the other magic."""
    # Without a magic it can only be an encrypted stream, where there is a key for one.
    no_magic = ("truncated", "decrypt_failed") if source.signed and not source.encrypted else ("bad_magic",)
    for bit in range(32):
        yield _inside(source, f"bit {bit}", flip_bit(source.plain, bit), *no_magic)
    other = MAGIC_UNSIGNED if source.signed else MAGIC_SIGNED
    swapped = other.to_bytes(4, "little") + source.plain[4:]
    # 64 bytes stand where an MD5 has 16; 16 where a signature has 64.
    yield _inside(source, "the other magic", swapped, "trailing_bytes" if source.signed else "truncated")


def timestamp(source: Source) -> Iterator[Mutant]:
    """Every bit; an older and a newer build, the ends of the range."""
    now = int.from_bytes(source.plain[4:12], "little")
    others = [now ^ 1 << bit for bit in range(64)]
    others += [0, 1, now - 1, now + 1, now + 10**10, MAX_TIMESTAMP_MS, MAX_TIMESTAMP_MS + 1, 2**63, 2**64 - 1]
    for other in others:
        plain = source.plain[:4] + other.to_bytes(8, "little") + source.plain[12:]
        yield _inside(
            source,
            f"timestamp {other:#x}",
            plain,
            "bad_timestamp" if other > MAX_TIMESTAMP_MS else source.altered,
        )


def rom_count(source: Source) -> Iterator[Mutant]:
    """Every number of ROMs but the right one."""
    for count in range(256):
        plain = source.plain[:12] + bytes([count]) + source.plain[13:]
        if count == 0:
            yield _inside(source, "no ROMs", plain, "no_roms")
        elif count < len(source.roms):
            yield _inside(source, f"{count} ROMs", plain, "trailing_bytes")
        elif count > len(source.roms):
            yield _inside(source, f"{count} ROMs", plain, "rom_too_large")


def reserved(source: Source) -> Iterator[Mutant]:
    """Every bit of the three bytes that are zero."""
    for bit in range(8 * 13, 8 * 16):
        yield _inside(source, f"bit {bit}", flip_bit(source.plain, bit), "reserved_not_zero")


def rom_addresses(source: Source) -> Iterator[Mutant]:
    """Every bit of each address."""
    for place in source.places[:-1]:
        for bit in range(8 * place, 8 * place + 32):
            yield _inside(source, f"bit {bit}", flip_bit(source.plain, bit), source.altered)


def rom_sizes(source: Source) -> Iterator[Mutant]:
    """Every bit of each size; nothing, one more, one less, the most."""
    for place, rom in zip(source.places, source.roms, strict=False):
        size = len(rom.content)
        others = [size ^ 1 << bit for bit in range(32)]
        others += [0, size - 1, size + 1, size + source.trailer, size + source.trailer + 1, 2**32 - 1]
        is_last = rom is source.roms[-1]
        for other in others:
            plain = source.plain[: place + 4] + other.to_bytes(4, "little") + source.plain[place + 8 :]
            yield _inside(source, f"size {other}", plain, *_size_codes(source, place, other, is_last=is_last))


def _size_codes(source: Source, place: int, size: int, *, is_last: bool) -> tuple[str, ...]:
    left = len(source.plain) - place - ROM_HEADER
    if not size:
        return ("empty_rom",)
    if size > left:
        return ("rom_too_large",)
    if is_last:
        return ("trailing_bytes",) if size < left - source.trailer else ("truncated",)
    return "rom_too_large", "truncated", "trailing_bytes"  # the next ROM's header is read in a wrong place


def contents(source: Source) -> Iterator[Mutant]:
    """The first and the last bit of each ROM, and a hundred at random."""
    noise = random.Random(source.name)
    for place, rom in zip(source.places, source.roms, strict=False):
        first, last = 8 * (place + ROM_HEADER), 8 * (place + ROM_HEADER + len(rom.content)) - 1
        for bit in (first, last, *(noise.randint(first, last) for _ in range(100))):
            yield _inside(source, f"bit {bit}", flip_bit(source.plain, bit), source.altered)


def trailers(source: Source) -> Iterator[Mutant]:
    """Every bit of the signature or MD5."""
    for bit in range(8 * source.places[-1], 8 * len(source.plain)):
        yield _inside(source, f"bit {bit}", flip_bit(source.plain, bit), source.altered)


def forgeries(source: Source) -> Iterator[Mutant]:
    """Signatures and checksums of other things, and by others."""
    body, right = source.plain[: source.places[-1]], source.plain[source.places[-1] :]
    older = build(source.roms, TIMESTAMP_MS - 1, KEY.seed if source.signed else None)
    forged = {
        "zeros": bytes(len(right)),
        "ones": b"\xff" * len(right),
        "an older one's": older[-len(right) :],
    }
    if source.signed:
        secret = sodium.crypto_sign_seed_keypair(KEY.seed)[1]
        s = int.from_bytes(right[32:], "little") + ORDER
        forged |= {
            "another key's": build(source.roms, TIMESTAMP_MS, OTHER.seed)[-SIGNATURE:],
            "not prehashed": sodium.crypto_sign(body, secret)[:SIGNATURE],
            "S + order": right[:32] + s.to_bytes(32, "little"),
            "R of small order": b"\1" + bytes(31) + bytes(32),
            "halves swapped": right[32:] + right[:32],
        }
    for what, trailer in forged.items():
        yield _inside(source, f"signature: {what}", body + trailer, source.altered)
    if source.signed:
        unsigned = build(source.roms, TIMESTAMP_MS, None)
        yield _inside(source, "an MD5 for a signature", unsigned, "unsigned")


def rom_tables(source: Source) -> Iterator[Mutant]:
    """ROMs left out, doubled, exchanged, under each other's address; the count fits, the trailer does not."""
    places = source.places
    roms = [source.plain[start:end] for start, end in itertools.pairwise(places)]
    orders: list[Sequence[bytes]] = [roms * 2, [*roms, roms[0]], [roms[0][:8] + roms[0][:7:-1], *roms[1:]]]
    if len(roms) > 1:
        orders += [roms[::-1], roms[:1], roms[1:], [roms[0][:4] + roms[1][4:], roms[1][:4] + roms[0][4:]]]
    for order in orders:
        count = bytes([len(order)])
        plain = source.plain[:12] + count + bytes(3) + b"".join(order) + source.plain[places[-1] :]
        yield _inside(source, f"{len(order)} ROMs of {len(roms)}", plain, source.altered)


def cut_inside(source: Source) -> Iterator[Mutant]:
    """Cut at every border of the format, beside it, and at fifty other sizes."""
    size = len(source.plain)
    borders = {near for place in (0, 4, 12, 13, 16, *source.places) for near in range(place - 1, place + 10)}
    sizes = borders | {size - 1, size - source.trailer + 1} | set(range(4, size, size // 50))
    for cut in sorted(one for one in sizes if 0 <= one < size):
        codes = ["truncated"]
        if cut < 4:
            codes = ["truncated", "bad_magic"]
        elif cut >= HEADER + ROM_HEADER:
            codes = ["truncated", "rom_too_large"]
        yield _inside(source, f"cut at {cut} of {size}", source.plain[:cut], *codes)


def longer_inside(source: Source) -> Iterator[Mutant]:
    """From one byte to 1 MiB behind the signature or MD5."""
    for extra in EXTRAS:
        for fill in (b"\0", b"\xa5"):
            yield _inside(source, f"{extra} more", source.plain + fill * extra, "trailing_bytes")


# -- the encrypted form


def stream_header(source: Source) -> Iterator[Mutant]:
    """Every bit of libsodium's header."""
    for bit in range(8 * STREAM_HEADER):
        yield _outside(source, f"bit {bit}", flip_bit(source.data, bit), "decrypt_failed")


def chunk_lengths(source: Source) -> Iterator[Mutant]:
    """Every bit of each chunk's length."""
    for number, start, _ in _chunks(source):
        for bit in range(8 * start, 8 * start + 16):
            data = flip_bit(source.data, bit)
            yield _outside(
                source, f"chunk {number}, bit {bit}", data, *{_not_genuine(number), "truncated", "bad_tag"}
            )


def chunk_contents(source: Source) -> Iterator[Mutant]:
    """Of each chunk every bit of its tag, some of its content, every fourth of its MAC."""
    for number, start, end in _chunks(source):
        first, last = 8 * (start + 2), 8 * end
        bits = [*range(first, first + 8), *range(first + 8, last - 128, 1999), *range(last - 128, last, 4)]
        for bit in bits:
            data = flip_bit(source.data, bit)
            yield _outside(source, f"chunk {number}, bit {bit}", data, _not_genuine(number))


def random_bits(source: Source) -> Iterator[Mutant]:
    """A thousand bits anywhere; then 2 to 1,000 of them at once."""
    noise = random.Random(source.name)
    spans = list(_chunks(source))
    for _ in range(1000):
        bit = noise.randrange(8 * len(source.data))
        number, start = next(((n, start) for n, start, end in spans if start <= bit // 8 < end), (1, 0))
        codes = {_not_genuine(number)}
        if start and bit // 8 < start + 2:
            codes |= {"truncated", "bad_tag"}
        yield _outside(source, f"bit {bit}", flip_bit(source.data, bit), *codes)
    for count in range(2, 1001, 26):
        data = bytearray(source.data)
        for bit in noise.sample(range(8 * len(data)), count):
            data[bit // 8] ^= 1 << bit % 8
        yield _outside(source, f"{count} bits", bytes(data), "decrypt_failed", "bad_tag", "truncated")


def cut_outside(source: Source) -> Iterator[Mutant]:
    """Cut at every chunk's border, beside it, and within."""
    yield _outside(source, "nothing left", b"", "truncated")
    yield _outside(source, "the header alone", source.data[:STREAM_HEADER], "truncated")
    for number, start, end in _chunks(source):
        if number > 1:
            yield _outside(source, f"cut before chunk {number}", source.data[:start], "no_final")
        for cut in (start + 1, start + 2, start + 3, (start + end) // 2, end - 1):
            yield _outside(source, f"cut in chunk {number} at {cut}", source.data[:cut], "truncated")


def chunk_order(source: Source) -> Iterator[Mutant]:
    """Each chunk left out, twice, and in its neighbour's place."""
    parts = split_chunks(source.data)
    last = len(parts) - 1
    for at in range(1, len(parts)):
        code = "no_final" if at == last else _not_genuine(at)
        yield _outside(source, f"without chunk {at}", b"".join(parts[:at] + parts[at + 1 :]), code)
        twice = "second_final" if at == last else "bad_tag"
        yield _outside(source, f"chunk {at} twice", b"".join(parts[: at + 1] + parts[at:]), twice)
        if at < last:
            swapped = [*parts[:at], parts[at + 1], parts[at], *parts[at + 2 :]]
            yield _outside(source, f"chunks {at} and {at + 1} swapped", b"".join(swapped), _not_genuine(at))


def final_tags(source: Source) -> Iterator[Mutant]:
    """FINAL missing, FINAL at each chunk before the last."""
    pieces = [source.plain[at : at + PLAIN_CHUNK] for at in range(0, len(source.plain), PLAIN_CHUNK)]
    yield _outside(source, "no FINAL", encrypt_chunks([(piece, MESSAGE) for piece in pieces]), "no_final")
    for at in range(len(pieces) - 1):
        tags = [FINAL if number in (at, len(pieces) - 1) else MESSAGE for number in range(len(pieces))]
        data = encrypt_chunks(list(zip(pieces, tags, strict=True)))
        yield _outside(source, f"FINAL in chunk {at + 1} as well", data, "second_final")


def longer_outside(source: Source) -> Iterator[Mutant]:
    """From one byte to 1 MiB behind the final chunk."""
    for extra in EXTRAS:
        for fill in (b"\0", b"\xa5"):
            yield _outside(source, f"{extra} more", source.data + fill * extra, "second_final")


def other_stream(source: Source) -> Iterator[Mutant]:
    """Another key's stream, another stream's header, a stream in a stream."""
    again = encrypt(source.plain, KEY.stream_key)
    yield _outside(source, "another key", encrypt(source.plain, OTHER.stream_key), "decrypt_failed")
    yield _outside(
        source, "another header", again[:STREAM_HEADER] + source.data[STREAM_HEADER:], "decrypt_failed"
    )
    yield _outside(source, "encrypted twice", encrypt(source.data, KEY.stream_key), "bad_magic")
    parts, others = split_chunks(source.data), split_chunks(again)
    for at in range(1, len(parts)):
        mixed = b"".join([*parts[:at], others[at], *parts[at + 1 :]])
        yield _outside(source, f"chunk {at} of another stream", mixed, _not_genuine(at))


def _chunks(source: Source) -> Iterator[tuple[int, int, int]]:
    """Yield the number of each chunk, where its length stands, and where it ends."""
    start = STREAM_HEADER
    for number, part in enumerate(split_chunks(source.data)[1:], start=1):
        yield number, start, start + len(part)
        start += len(part)


def _not_genuine(number: int) -> str:
    return "decrypt_failed" if number == 1 else "bad_tag"


INSIDE: tuple[Class, ...] = (
    *(magic, timestamp, rom_count, reserved, rom_addresses, rom_sizes, rom_tables),
    *(contents, trailers, forgeries, cut_inside, longer_inside),
)
OUTSIDE: tuple[Class, ...] = (
    *(stream_header, chunk_lengths, chunk_contents, chunk_order, random_bits),
    *(final_tags, other_stream, cut_outside, longer_outside),
)


def mutants_of(mutate: Class) -> Iterator[Mutant]:
    """Yield what a class makes of all sources that it is for."""
    for source in sources():
        if mutate in INSIDE or source.encrypted:
            yield from mutate(source)
