import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.containers import Vector, load_vectors

from gatewayd.errors import FirmwareError
from gatewayd.ota.patch import PatchEncoding, encode_patch, split_patch

VARINT, BYTE = PatchEncoding.VARINT, PatchEncoding.BYTE


def split(message: bytes, encoding: PatchEncoding) -> tuple[int, bytes]:
    patch, firmware = split_patch(message, encoding)
    return patch, bytes(firmware)


@given(st.integers(0, 2**64 - 1), st.binary(min_size=1))
def test_varints_round_trip(patch: int, firmware: bytes) -> None:
    assert split(encode_patch(patch, VARINT) + firmware, VARINT) == (patch, firmware)


@given(st.integers(0, 255), st.binary(min_size=1))
def test_bytes_round_trip(patch: int, firmware: bytes) -> None:
    assert split(encode_patch(patch, BYTE) + firmware, BYTE) == (patch, firmware)


@pytest.mark.parametrize("vector", load_vectors(), ids=lambda vector: vector.file)
def test_varints_are_those_of_the_manifest(vector: Vector) -> None:
    assert encode_patch(vector.patch, VARINT) == vector.varint
    assert split(vector.varint + vector.content, VARINT) == (vector.patch, vector.content)


@pytest.mark.parametrize(
    ("encoded", "patch"),
    [
        ("00", 0),
        ("7f", 127),
        ("8001", 128),
        ("ac02", 300),
        ("ffffffffffffffffff01", 2**64 - 1),
        ("8000", 0),
        ("ac8200", 300),
        ("80808080808080808000", 0),
    ],
)
def test_groups_are_shifted_and_long_forms_accepted(encoded: str, patch: int) -> None:
    assert split(bytes.fromhex(encoded) + b"x", VARINT) == (patch, b"x")


@pytest.mark.parametrize(
    ("message", "encoding", "code"),
    [
        ("", VARINT, "patch_truncated"),
        ("", BYTE, "patch_truncated"),
        ("80", VARINT, "patch_truncated"),
        ("ffffffffffffffffff", VARINT, "patch_truncated"),
        ("ffffffffffffffffff02aa", VARINT, "patch_overflow"),
        ("8080808080808080808000aa", VARINT, "patch_overflow"),
        ("ff" * 50, VARINT, "patch_overflow"),
        ("05", VARINT, "empty_firmware"),
        ("ac02", VARINT, "empty_firmware"),
        ("ff", BYTE, "empty_firmware"),
    ],
)
def test_bad_messages_are_refused(message: str, encoding: PatchEncoding, code: str) -> None:
    with pytest.raises(FirmwareError) as refused:
        split_patch(bytes.fromhex(message), encoding)
    assert refused.value.code == code


@given(st.integers(0, 2**64 - 1), st.integers(0, 79))
def test_a_flipped_bit_is_another_patch_or_refused(patch: int, bit: int) -> None:
    message = bytearray(encode_patch(patch, VARINT))
    message[bit // 8 % len(message)] ^= 1 << bit % 8
    with contextlib.suppress(FirmwareError):
        assert split_patch(bytes(message), VARINT)[0] != patch


@pytest.mark.parametrize(("patch", "encoding"), [(-1, VARINT), (2**64, VARINT), (-1, BYTE), (256, BYTE)])
def test_what_does_not_fit_is_not_written(patch: int, encoding: PatchEncoding) -> None:
    with pytest.raises(FirmwareError) as refused:
        encode_patch(patch, encoding)
    assert refused.value.code == "patch_overflow"


def test_the_firmware_is_a_view_not_a_copy() -> None:
    message = bytearray(b"\x05firmware")
    _, firmware = split_patch(message, BYTE)
    assert firmware.obj is message
    assert firmware.readonly
