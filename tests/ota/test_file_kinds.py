"""What a file is, before it is sent."""

import base64
import io
import lzma
import tarfile

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from lab.containers import KEY, PLAIN, SIGNED, SIGNED_ENCRYPTED

from gatewayd.errors import FirmwareError
from gatewayd.ota.container import Rom, build, encrypt
from gatewayd.ota.file_kinds import advice, refuse_keys, refuse_nesting

IMAGE = bytes(range(256)) * 8
_IMAGE_WITH_CA = IMAGE * 3 + b"-----BEGIN CERTIFICATE-----\nAAAA\n"


def _der(encoding: Encoding, form: PrivateFormat) -> bytes:
    # The same each time: workers compare the names of the tests that they collect.
    return ec.derive_private_key(1 << 200, ec.SECP256R1()).private_bytes(encoding, form, NoEncryption())


@pytest.mark.parametrize(
    "content",
    [
        KEY.to_file(),
        KEY.to_file() + b"\n",
        KEY.verify_key,
        KEY.decrypt_key,
        b"-----BEGIN " + b"PRIVATE KEY-----\nAAAA\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n",
        b"#" * 5000 + b"\n-----BEGIN " + b"EC PRIVATE KEY-----\nAAAA\n",
        b"-----BEGIN PGP " + b"PRIVATE KEY BLOCK-----\n\nAAAA\n",
        b"# created: 2026-11-29\nAGE-SECRET-" + b"KEY-1QQQQ\n",
        b"PuTTY-User-Key-" + b"File-3: ssh-ed25519\n",
        bytes.fromhex(KEY.to_file().decode()),
        b"\xef\xbb\xbf" + KEY.to_file() + b"\r\n",
        b"0x" + KEY.to_file(),
        KEY.to_file()[:64] + b"\n" + KEY.to_file()[64:],
        KEY.verify_key.hex(":").encode(),
        base64.b64encode(KEY.decrypt_key) + b"\n",
        _der(Encoding.DER, PrivateFormat.PKCS8),
        _der(Encoding.DER, PrivateFormat.TraditionalOpenSSL),
    ],
)
def test_a_key_is_never_sent(content: bytes) -> None:
    with pytest.raises(FirmwareError) as caught:
        refuse_keys(content, "file")
    assert caught.value.code == "key_file"
    assert content.strip().decode(errors="replace")[:40] not in str(caught.value)


def test_firmware_is_no_key() -> None:
    for content in (IMAGE, PLAIN, SIGNED, b"ab" * 64 + b"z", b"0\x82\x07\xfd" + IMAGE, _IMAGE_WITH_CA):
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
        (b"\xef\xbb\xbf\r\n:020000040800F2\r\n", "Intel HEX"),
        (b"; built by make\n:020000040800F2\n", "Intel HEX"),
        (b"\r\nS00600004844521B\r\n", "S-record"),
        (b"\xef\xbb\xbf<!-- proxy -->\n<html>", "web page"),
        ("four words in UTF-16".encode("utf-16"), "UTF-16"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n", "git lfs pull"),
        (lzma.compress(IMAGE, lzma.FORMAT_ALONE), "LZMA"),
        (b"Rar!\x1a\x07\x00" + IMAGE, "RAR"),
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
