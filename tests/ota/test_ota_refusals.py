"""Containers that must not pass, each with the code that says why."""

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.containers import (
    FINAL,
    KEY,
    KEYS,
    MESSAGE,
    PLAIN,
    SIGNED,
    SIGNED_ENCRYPTED,
    STREAM_HEADER,
    encrypt_chunks,
    flip_bit,
    split_chunks,
)

from gatewayd.errors import FirmwareError
from gatewayd.ota.container import MAX_TIMESTAMP_MS, Rom, build, encrypt, open_container
from gatewayd.ota.keys import KeySet, generate

OTHER = generate()
SMALL = build([Rom(0x2000, bytes(range(256)) * 10), Rom(0x202000, b"second")], 1, KEY.seed)


def refusal(data: bytes, keys: KeySet = KEYS, *, allow_unsigned: bool = False) -> str:
    with pytest.raises(FirmwareError) as refused:
        open_container(data, keys, allow_unsigned=allow_unsigned)
    assert refused.value.message
    return refused.value.code


def with_md5(body: bytes) -> bytes:
    return body + hashlib.md5(body, usedforsecurity=False).digest()


def header(
    magic: int = 0xF01AF020, timestamp_ms: int = 0, count: int = 1, reserved: bytes = bytes(3)
) -> bytes:
    return struct.pack("<IQB", magic, timestamp_ms, count) + reserved


ROM = struct.pack("<II", 0x2000, 4) + b"abcd"


def test_the_pieces_of_these_tests_make_a_good_container() -> None:
    assert open_container(with_md5(header() + ROM), KEYS, allow_unsigned=True).roms == (Rom(0x2000, b"abcd"),)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "bad_magic"),
        (b"\x20\xf0\x1a", "bad_magic"),
        (b"\xe9" * 100, "bad_magic"),
        (with_md5(header(magic=0xF01AF021) + ROM), "bad_magic"),
        (header()[:15], "truncated"),
        (header(), "truncated"),
        (header() + ROM[:7], "truncated"),
        (header() + ROM + bytes(15), "truncated"),
        (header(magic=0xF01AF02A) + ROM + bytes(63), "truncated"),
        (with_md5(header(count=2) + ROM + ROM[:-1]), "truncated"),
        (header(count=2) + ROM + ROM[:8], "rom_too_large"),
        (with_md5(header() + struct.pack("<II", 0, 2**32 - 1) + b"abcd"), "rom_too_large"),
        (with_md5(header() + struct.pack("<II", 0, 0)), "empty_rom"),
        (with_md5(header(count=0)), "no_roms"),
        (with_md5(header(reserved=b"\x01\0\0") + ROM), "reserved_not_zero"),
        (with_md5(header(reserved=b"\0\0\x80") + ROM), "reserved_not_zero"),
        (with_md5(header(timestamp_ms=MAX_TIMESTAMP_MS + 1) + ROM), "bad_timestamp"),
        (with_md5(header() + ROM) + b"\0", "trailing_bytes"),
        (with_md5(header() + ROM + ROM), "trailing_bytes"),
        (header() + ROM + bytes(16), "bad_md5"),
    ],
)
def test_a_malformed_plain_container(data: bytes, code: str) -> None:
    assert refusal(data, KeySet(), allow_unsigned=True) == code


def test_a_signature_by_another_key() -> None:
    assert refusal(build([Rom(0, b"x")], 0, OTHER.seed)) == "bad_signature"


def test_an_altered_signed_container() -> None:
    assert refusal(flip_bit(SIGNED, 8 * 1000)) == "bad_signature"
    assert refusal(flip_bit(SIGNED, 8 * len(SIGNED) - 1)) == "bad_signature"


def test_a_signature_swapped_for_an_md5_is_no_way_in() -> None:
    body = header() + SIGNED[16:-64]
    assert refusal(with_md5(body)) == "unsigned"


def test_a_signed_container_that_no_key_can_check() -> None:
    assert refusal(SIGNED, KeySet(KEY.decrypt_key), allow_unsigned=True) == "no_verify_key"


def test_an_unsigned_container_where_a_key_demands_a_signature() -> None:
    assert refusal(PLAIN) == "unsigned"
    assert refusal(encrypt(PLAIN, KEY.stream_key)) == "unsigned"


def test_a_plain_container_where_only_encryption_vouches() -> None:
    assert refusal(PLAIN, KeySet(KEY.decrypt_key)) == "not_encrypted"
    assert open_container(
        encrypt(PLAIN, KEY.stream_key), KeySet(KEY.decrypt_key), allow_unsigned=False
    ).encrypted


def test_an_encrypted_container_without_a_key() -> None:
    assert refusal(SIGNED_ENCRYPTED, KeySet(None, KEY.verify_key)) == "no_decrypt_key"


def test_an_encrypted_container_with_another_key() -> None:
    assert refusal(SIGNED_ENCRYPTED, OTHER.key_set()) == "decrypt_failed"


def test_the_encrypted_layer_protects_a_bad_container_no_better() -> None:
    assert refusal(encrypt(with_md5(header(count=0)), KEY.stream_key)) == "no_roms"
    assert refusal(encrypt(b"\xe9" * 5000, KEY.stream_key)) == "bad_magic"
    assert refusal(encrypt_chunks([(b"", FINAL)])) == "truncated"


def test_no_final_chunk() -> None:
    assert refusal(encrypt_chunks([(SIGNED[:2031], MESSAGE), (SIGNED[2031:], MESSAGE)])) == "no_final"


def test_a_second_final_chunk() -> None:
    assert refusal(encrypt_chunks([(SIGNED, FINAL), (b"more", FINAL)])) == "second_final"
    assert refusal(encrypt_chunks([(SIGNED[:2031], FINAL), (SIGNED[2031:], FINAL)])) == "second_final"


@pytest.mark.parametrize("extra", [b"\0", b"\0\0", bytes(100)])
def test_bytes_after_the_final_chunk(extra: bytes) -> None:
    assert refusal(SIGNED_ENCRYPTED + extra) == "second_final"


def test_a_chunk_too_short_for_its_tag() -> None:
    assert refusal(SIGNED_ENCRYPTED[:STREAM_HEADER] + b"\x0f\0" + bytes(16)) == "bad_tag"


def test_truncation_at_every_chunk_boundary() -> None:
    parts = split_chunks(SIGNED_ENCRYPTED)
    codes = [refusal(b"".join(parts[:count])) for count in range(1, len(parts))]
    assert codes == ["truncated"] + ["no_final"] * (len(parts) - 2)


def test_truncation_at_every_byte() -> None:
    encrypted = encrypt(SMALL, KEY.stream_key)
    assert open_container(encrypted, KEYS, allow_unsigned=False).signed
    allowed = {"bad_magic", "truncated", "rom_too_large", "no_final"}
    assert {refusal(SMALL[:size], allow_unsigned=True) for size in range(4, len(SMALL))} <= allowed
    assert {refusal(encrypted[:size], allow_unsigned=True) for size in range(len(encrypted))} <= allowed


@pytest.mark.parametrize(
    ("first", "second", "code"), [(1, 2, "decrypt_failed"), (2, 3, "bad_tag"), (5, 9, "bad_tag")]
)
def test_swapped_chunks(first: int, second: int, code: str) -> None:
    parts = split_chunks(SIGNED_ENCRYPTED)
    parts[first], parts[second] = parts[second], parts[first]
    assert refusal(b"".join(parts)) == code


@pytest.mark.parametrize("at", [2, 10, 19])
def test_a_chunk_left_out_or_sent_twice(at: int) -> None:
    parts = split_chunks(SIGNED_ENCRYPTED)
    assert refusal(b"".join(parts[:at] + parts[at + 1 :])) == "bad_tag"
    assert refusal(b"".join(parts[: at + 1] + parts[at:])) == "bad_tag"


def _bits(data: bytes) -> list[int]:
    """Every bit of the first 64 bytes, then 500 over the rest; an odd step meets every place in a byte."""
    rest = range(512, 8 * len(data), (8 * len(data) - 512) // 500 | 1)
    assert len(rest) >= 500
    return [*range(512), *rest]


@pytest.mark.parametrize("name", ["SIGNED_ENCRYPTED", "SIGNED"])
def test_every_flipped_bit_is_refused(name: str) -> None:
    data: bytes = globals()[name]
    passed = []
    for bit in _bits(data):
        try:
            open_container(flip_bit(data, bit), KEYS, allow_unsigned=False)
        except FirmwareError:
            continue
        passed.append(bit)
    assert passed == []


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", header(), header(0xF01AF02A), header(count=3), header() + ROM]),
)
def test_any_bytes_are_refused_without_a_crash(noise: bytes, start: bytes) -> None:
    for keys in (KEYS, KeySet(), KeySet(KEY.decrypt_key)):
        refusal(start + noise, keys, allow_unsigned=True)
