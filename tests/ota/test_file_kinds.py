"""What a file is, before it is sent."""

import io
import tarfile

import pytest
from lab.containers import KEY, PLAIN, SIGNED, SIGNED_ENCRYPTED

from gatewayd.errors import FirmwareError
from gatewayd.ota.container import Rom, build, encrypt
from gatewayd.ota.file_kinds import advice, refuse_keys, refuse_nesting

IMAGE = bytes(range(256)) * 8


@pytest.mark.parametrize(
    "content",
    [
        KEY.to_file(),
        KEY.to_file() + b"\n",
        KEY.verify_key,
        KEY.decrypt_key,
        b"-----BEGIN " + b"PRIVATE KEY-----\nAAAA\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n",
    ],
)
def test_a_key_is_never_sent(content: bytes) -> None:
    with pytest.raises(FirmwareError) as caught:
        refuse_keys(content, "file")
    assert caught.value.code == "key_file"
    assert content.strip().decode(errors="replace")[:40] not in str(caught.value)


def test_firmware_is_no_key() -> None:
    for content in (IMAGE, PLAIN, SIGNED, b"ab" * 64 + b"z"):
        refuse_keys(content, "file")


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("app.bin"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x7fELF" + IMAGE, "objcopy -O binary"),
        (b":020000040800F2\n:10000000000002200D0100089901000899010008F6\n", "Intel HEX"),
        (b"S00600004844521B\nS1130000285F245F2212226A000424290008237C2A\n", "S-record"),
        (b"UF2\n" + IMAGE, "UF2"),
        (b"PK\x03\x04" + IMAGE, "ZIP"),
        (b"\x1f\x8b\x08" + IMAGE, "gzip"),
        (_tar(), "tar"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"just words", "text"),
        (b"\xff" * 5000, "0xff"),
        (bytes(5000), "0x00"),
    ],
)
def test_what_is_no_flat_image_is_named_with_the_next_step(content: bytes, said: str) -> None:
    assert said in str(advice(content))


@pytest.mark.parametrize("content", [IMAGE, PLAIN, SIGNED, SIGNED_ENCRYPTED, b""])
def test_firmware_needs_no_advice(content: bytes) -> None:
    assert advice(content) is None


@pytest.mark.parametrize("inner", [PLAIN, SIGNED, SIGNED_ENCRYPTED], ids=["plain", "signed", "encrypted"])
def test_a_container_in_a_container(inner: bytes) -> None:
    outer = build([Rom(0x2000, inner)], 1, None)
    with pytest.raises(FirmwareError) as caught:
        refuse_nesting(outer, "file")
    assert caught.value.code == "nested_container"


def test_a_container_of_images() -> None:
    refuse_nesting(PLAIN, "file")
    refuse_nesting(encrypt(build([Rom(0, IMAGE)], 1, None), KEY.stream_key), "file")
