"""MCUboot images: what is read from them, and each way in which they can be wrong."""

import hashlib
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from lab.smp.recipes import HEADER_SIZE, Recipe, make_image

from gatewayd.errors import FirmwareError
from gatewayd.protocol.smp.kind import SMP
from gatewayd.protocol.smp.mcuboot import is_mcuboot_image, read_image

GOOD = make_image()
COMPRESSED, ENCRYPTED, NOT_BOOTABLE = 0x200, 0x4, 0x10
BODY_END = HEADER_SIZE + 320


def put(image: bytes, at: int, new: bytes) -> bytes:
    return image[:at] + new + image[at + len(new) :]


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("protected", [(), ((0x50, b"\1\2\3\4"),)])
def test_an_image_is_read(algorithm: str, protected: tuple[tuple[int, bytes], ...]) -> None:
    content = make_image(Recipe((1, 200, 60_000, 77), algorithm=algorithm, protected=protected))
    image = read_image(content)
    assert (image.version, image.build) == ("1.200.60000", 77)
    assert (image.header_size, image.image_size) == (HEADER_SIZE, 320)
    end = BODY_END + (12 if protected else 0)
    assert image.id.digest == hashlib.new(algorithm, content[:end]).digest()
    assert str(image.id) == f"mcuboot-{algorithm}:{image.id.digest.hex()}"
    assert image.running_id == image.id
    assert [image.is_encrypted, image.is_compressed, image.is_signed] == [False] * 3


def test_what_imgtool_signs_is_read(tmp_path: Path) -> None:
    plain, signed = tmp_path / "plain.bin", tmp_path / "signed.bin"
    plain.write_bytes(bytes(range(256)) * 20)
    imgtool = str(Path(sys.executable).with_name("imgtool"))
    options = ["--header-size", "0x200", "--pad-header", "--align", "4", "--slot-size", "106496"]
    command = [imgtool, "sign", "--version", "4.3.2+9", *options, str(plain), str(signed)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    image = read_image(signed.read_bytes())
    assert (image.version, image.build, image.image_size) == ("4.3.2", 9, 5120)


def test_a_signature_is_seen_and_an_encrypted_image_is_taken_on_trust() -> None:
    image = read_image(make_image(Recipe(flags=ENCRYPTED, tlvs=((0x22, bytes(70)), (0x32, bytes(48))))))
    assert (image.is_encrypted, image.is_signed) == (True, True)
    damaged = put(make_image(Recipe(flags=ENCRYPTED)), HEADER_SIZE, b"X")
    assert read_image(damaged).id == read_image(make_image(Recipe(flags=ENCRYPTED))).id


def test_a_compressed_image_runs_under_the_hash_of_what_it_unpacks_to() -> None:
    image = read_image(make_image(Recipe(flags=COMPRESSED, protected=((0x71, bytes(range(32))),))))
    assert image.running_id.digest == bytes(range(32))
    assert image.id != image.running_id


TLV = BODY_END  # where the TLV area begins
WRONG = {
    "nothing": (b"", "bad_image_header"),
    "another format": (b"\x7fELF" + GOOD[4:], "bad_image_header"),
    "half a header": (GOOD[:20], "image_truncated"),
    "a header size below a header": (put(GOOD, 8, b"\x10\0"), "bad_image_header"),
    "no payload": (put(GOOD, 12, bytes(4)), "bad_image_header"),
    "not bootable": (make_image(Recipe(flags=NOT_BOOTABLE)), "bad_image_header"),
    "a size past the end": (put(GOOD, 12, b"\xff\xff\xff\xff"), "image_truncated"),
    "cut within the payload": (GOOD[:600], "image_truncated"),
    "cut within the TLVs": (GOOD[:-1], "image_truncated"),
    "cut before the TLVs": (GOOD[:TLV], "image_truncated"),
    "no TLV magic": (put(GOOD, TLV, b"\0\0"), "bad_image_tlv"),
    "a TLV area below its own header": (put(GOOD, TLV + 2, b"\3\0"), "bad_image_tlv"),
    "an entry past its area": (put(GOOD, TLV + 6, b"\x21\0"), "bad_image_tlv"),
    "a hash of the wrong length": (put(GOOD, TLV + 4, b"\x11"), "bad_image_tlv"),
    "two hashes": (make_image(Recipe(tlvs=((0x10, bytes(32)),))), "bad_image_tlv"),
    "no hash": (make_image(Recipe(has_hash=False, tlvs=((0x22, bytes(64)),))), "image_hash_missing"),
    "a changed byte": (put(GOOD, HEADER_SIZE + 5, b"X"), "image_hash_mismatch"),
    "a changed version": (put(GOOD, 20, b"\7"), "image_hash_mismatch"),
    "padding": (GOOD + b"\xff" * 64, "image_padded"),
    "a protected area of another size": (
        put(make_image(Recipe(protected=((0x50, b"\1\2\3\4"),))), TLV + 2, b"\x08\0"),
        "bad_image_tlv",
    ),
    "compressed, without the other hash": (make_image(Recipe(flags=COMPRESSED)), "bad_image_tlv"),
    "three bytes behind the last entry": (
        put(GOOD, TLV + 2, struct.pack("<H", len(GOOD) - TLV + 3)) + b"\0\0\0",
        "bad_image_tlv",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_image_is_refused(name: str) -> None:
    content, code = WRONG[name]
    with pytest.raises(FirmwareError) as caught:
        read_image(content)
    assert caught.value.code == code


def test_the_header_is_the_version() -> None:
    assert SMP.read_version(GOOD) == "1.2.3"
    assert SMP.name_image(GOOD, b"", "1.2.3") == read_image(GOOD).running_id
    with pytest.raises(FirmwareError, match=r"is 1\.2\.3, topic and patch header say 1\.2\.4") as caught:
        SMP.name_image(GOOD, b"", "1.2.4")
    assert caught.value.code == "image_version_differs"
    assert is_mcuboot_image(GOOD)
    assert not is_mcuboot_image(b"\xe9")
