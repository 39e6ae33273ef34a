"""What passes for a bare image, and how the other patch encoding is noticed."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.containers import KEYS, SIGNED_ENCRYPTED

from gatewayd.errors import FirmwareError
from gatewayd.ota.firmware import Firmware, read_firmware
from gatewayd.ota.image_check import begins_like_firmware, is_text
from gatewayd.ota.patch import PatchEncoding, encode_patch
from gatewayd.ota.rules import Payload

VECTORS = Path(__file__).parents[1] / "vectors" / "messages"
ESP = bytes.fromhex("e9030240") + bytes(range(256)) * 4
RBOOT = bytes.fromhex("ea040000") + bytes(range(256)) * 4
MCUBOOT = bytes.fromhex("3db8f396") + bytes(range(256)) * 4
CORTEX = struct.pack("<4I", 0x2000_8000, 0x0000_01C1, 0x0000_01D5, 0x0000_01D7) + bytes(1024)
UNKNOWN = b"\x00\x91" + bytes(range(256)) * 4
BYTE, VARINT = PatchEncoding.BYTE, PatchEncoding.VARINT


def read(
    message: bytes, encoding: PatchEncoding = VARINT, *, magic: str = "", check: bool = True
) -> Firmware:
    return read_firmware(
        message,
        encoding=encoding,
        payload=Payload.STANDARD,
        keys=None,
        allow_unsigned=False,
        image_magic=bytes.fromhex(magic),
        image_check=check,
    )


def refusal(message: bytes, encoding: PatchEncoding = VARINT, *, magic: str = "") -> str:
    with pytest.raises(FirmwareError) as caught:
        read(message, encoding, magic=magic)
    return caught.value.code


@pytest.mark.parametrize(
    "body",
    [b'{"version":"4.3.9"}' * 60, b":10000000000002200D\n" * 100, "Größe\n".encode() * 200, b"x" * 300],
)
def test_text_is_no_image(body: bytes) -> None:
    assert refusal(b"\x01" + body) == "text_payload"
    assert read(b"\x01" + body, check=False).body == body


def test_a_json_message_that_begins_like_a_patch_version() -> None:
    message = (VECTORS / "json_on_the_ota_topic.bin").read_bytes()
    assert refusal(message) == "text_payload"
    assert refusal(message, BYTE) == "text_payload"


@pytest.mark.parametrize("start", ["\ufeff", "ä", "中", "🔥"])
def test_text_whose_first_letter_is_cut_by_the_patch_version_is_text(start: str) -> None:
    message = (start + '{"state": "on"}' * 60).encode()
    assert refusal(message, BYTE) == "text_payload"
    assert refusal(message, VARINT) in ("text_payload", "patch_implausible")


def test_too_small_for_firmware() -> None:
    assert refusal(b"\x01" + bytes(255)) == "image_too_small"
    assert len(read(b"\x01" + bytes(256)).body) == 256


def test_the_configured_magic_is_demanded() -> None:
    assert refusal(b"\x01" + UNKNOWN, magic="e9") == "magic_differs"
    assert read(b"\x01" + ESP, magic="E903").body == ESP


@pytest.mark.parametrize("image", [ESP, RBOOT, MCUBOOT, CORTEX], ids=["esp", "rboot", "mcuboot", "cortex-m"])
@pytest.mark.parametrize("patch", [128, 172, 255, 300, 16_383])
def test_an_image_shifted_by_the_other_encoding_is_noticed(image: bytes, patch: int) -> None:
    varint = encode_patch(patch, VARINT) + image
    assert refusal(varint, BYTE) == "other_encoding"
    assert read(varint).body == image
    if patch < 256:
        byte = encode_patch(patch, BYTE) + image
        assert read(byte, BYTE).body == image
        assert refusal(byte, VARINT) == "other_encoding"


def test_the_message_that_was_flashed_shifted_by_a_byte() -> None:
    message = (VECTORS / "varint_300_then_image.bin").read_bytes()
    assert refusal(message, BYTE) == "other_encoding"
    assert refusal(message, BYTE, magic="e9") == "other_encoding"
    assert read(message).patch == 300


@given(patch=st.integers(0, 255), start=st.binary(max_size=16))
def test_where_nothing_tells_the_configured_encoding_holds(patch: int, start: bytes) -> None:
    image = b"\x00\x91\xff" + start + bytes(range(256))
    for encoding in (BYTE, VARINT):
        message = encode_patch(patch, encoding) + image
        assert read(message, encoding).body == image
        assert read(message, encoding).patch == patch


@given(st.binary(max_size=64))
def test_random_bytes_are_hardly_ever_taken_for_firmware(content: bytes) -> None:
    if begins_like_firmware(content, b""):
        assert content[:1] in (b"\xe9", b"\xea", b"\x3d") or content[3] in range(0x10, 0x40)


@given(st.text(min_size=1, max_size=3000).filter(lambda text: "\0" not in text))
def test_any_text_is_text_wherever_the_sample_ends(text: str) -> None:
    assert is_text(text.encode() * (1 + 9000 // len(text.encode())))


@pytest.mark.parametrize(("encoding", "patch"), [(BYTE, 300), (VARINT, 200)])
def test_a_container_in_the_other_encoding_is_named(encoding: PatchEncoding, patch: int) -> None:
    other = VARINT if encoding is BYTE else BYTE
    with pytest.raises(FirmwareError) as caught:
        read_firmware(
            encode_patch(patch, other) + SIGNED_ENCRYPTED,
            encoding=encoding,
            payload=Payload.ADVANCED,
            keys=KEYS,
            allow_unsigned=False,
        )
    assert caught.value.code == "other_encoding"
