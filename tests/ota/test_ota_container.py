"""Containers that must pass: Sming's, ours, and each read by the other's rules."""

import hashlib
import tracemalloc
from datetime import UTC, datetime

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
    Vector,
    encrypt_chunks,
    load_vectors,
    split_chunks,
)

from gatewayd.errors import FirmwareError
from gatewayd.ota.container import (
    MAX_TIMESTAMP_MS,
    Rom,
    build,
    decrypt,
    encrypt,
    moment_of,
    open_container,
    parse,
    timestamp_of,
)
from gatewayd.ota.keys import KeySet

VECTORS = load_vectors()
BY_FILE = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.file)
ROMS = st.lists(
    st.builds(Rom, st.integers(0, 2**32 - 1), st.binary(min_size=1, max_size=5000)), min_size=1, max_size=4
)


@BY_FILE
def test_vectors_decode_to_the_roms_of_their_manifest(vector: Vector) -> None:
    assert hashlib.sha256(vector.content).hexdigest() == vector.sha256
    container = open_container(vector.content, KEYS, allow_unsigned=not vector.signed)
    assert (container.signed, container.encrypted) == (vector.signed, vector.encrypted)
    roms = [
        (rom.address, len(rom.content), hashlib.sha256(rom.content).hexdigest()) for rom in container.roms
    ]
    assert roms == vector.roms
    assert moment_of(container.timestamp_ms).year == 2026


@BY_FILE
def test_vectors_are_rebuilt_byte_for_byte(vector: Vector) -> None:
    plain = decrypt(vector.content, KEY.stream_key) if vector.encrypted else memoryview(vector.content)
    container = parse(plain, KEY.verify_key)
    rebuilt = build(container.roms, container.timestamp_ms, KEY.seed if vector.signed else None)
    assert rebuilt == plain


@pytest.mark.parametrize("vector", [v for v in VECTORS if v.encrypted], ids=lambda vector: vector.file)
def test_our_chunks_are_cut_as_otatool_cuts_them(vector: Vector) -> None:
    plain = decrypt(vector.content, KEY.stream_key)
    ours = encrypt(plain, KEY.stream_key)
    assert [len(chunk) for chunk in split_chunks(ours)] == [
        len(chunk) for chunk in split_chunks(vector.content)
    ]
    assert decrypt(ours, KEY.stream_key) == plain


@given(ROMS, st.integers(0, MAX_TIMESTAMP_MS), st.booleans(), st.booleans())
def test_what_is_built_is_read(roms: list[Rom], timestamp_ms: int, signed: bool, encrypted: bool) -> None:
    data = build(roms, timestamp_ms, KEY.seed if signed else None)
    container = open_container(
        encrypt(data, KEY.stream_key) if encrypted else data, KEYS, allow_unsigned=not signed
    )
    assert container.timestamp_ms == timestamp_ms
    assert container.roms == tuple(roms)
    assert (container.signed, container.encrypted) == (signed, encrypted)
    assert container.sha256 == hashlib.sha256(data).digest()


@pytest.mark.parametrize("size", [2030, 2031, 2032, 4062, 4063])
def test_the_last_chunk_is_never_empty(size: int) -> None:
    plain = bytes(size)
    chunks = split_chunks(encrypt(plain, KEY.stream_key))[1:]
    assert len(chunks) == -(-size // 2031)
    assert decrypt(encrypt(plain, KEY.stream_key), KEY.stream_key) == plain


def test_chunks_of_other_sizes_are_read() -> None:
    pieces = [SIGNED[:1], SIGNED[1:1], SIGNED[1:30_000], SIGNED[30_000:]]
    data = encrypt_chunks([(piece, MESSAGE) for piece in pieces] + [(b"", FINAL)])
    assert open_container(data, KEYS, allow_unsigned=False).signed


def test_255_roms_are_the_most() -> None:
    roms = [Rom(address, b"x") for address in range(255)]
    assert len(parse(build(roms, 0, None), None).roms) == 255
    with pytest.raises(FirmwareError) as refused:
        build([*roms, Rom(255, b"x")], 0, None)
    assert refused.value.code == "too_many_roms"


@pytest.mark.parametrize(
    ("roms", "timestamp_ms", "code"),
    [
        ([], 0, "no_roms"),
        ([Rom(0, b"")], 0, "empty_rom"),
        ([Rom(-1, b"x")], 0, "bad_address"),
        ([Rom(2**32, b"x")], 0, "bad_address"),
        ([Rom(0, b"x")], -1, "bad_timestamp"),
        ([Rom(0, b"x")], MAX_TIMESTAMP_MS + 1, "bad_timestamp"),
    ],
)
def test_what_the_format_cannot_say_is_not_built(roms: list[Rom], timestamp_ms: int, code: str) -> None:
    with pytest.raises(FirmwareError) as refused:
        build(roms, timestamp_ms, None)
    assert refused.value.code == code


def test_a_key_set_without_keys_reads_unsigned_containers() -> None:
    assert not open_container(PLAIN, KeySet(), allow_unsigned=False).signed


def test_only_a_key_vouches_for_a_timestamp() -> None:
    vouched = {
        vector.file: open_container(vector.content, KEYS, allow_unsigned=True).authenticated_timestamp_ms
        is not None
        for vector in VECTORS
    }
    assert vouched == {vector.file: vector.signed or vector.encrypted for vector in VECTORS}


def test_encrypting_anew_makes_no_other_container() -> None:
    first, second = (
        open_container(encrypt(SIGNED, KEY.stream_key), KEYS, allow_unsigned=False) for _ in range(2)
    )
    assert first == second


def test_timestamps_count_milliseconds_since_1900() -> None:
    assert timestamp_of(datetime(1900, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)) == 1500
    assert moment_of(1500) == datetime(1900, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    assert moment_of(MAX_TIMESTAMP_MS).year == 9999


def test_reading_a_large_image_takes_one_decrypted_buffer() -> None:
    size = 8 * 2**20
    data = encrypt(build([Rom(0, bytes(size))], 0, KEY.seed), KEY.stream_key)
    tracemalloc.start()
    try:
        container = open_container(data, KEYS, allow_unsigned=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(container.roms[0].content) == size
    assert peak < 1.6 * size
