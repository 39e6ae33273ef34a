import pytest
from lab.containers import KEY, KEYS, PLAIN, SIGNED_ENCRYPTED, VECTORS

from gatewayd.errors import FirmwareError
from gatewayd.ota.container import open_container
from gatewayd.ota.firmware import Firmware, image_for, read_firmware
from gatewayd.ota.keys import KeySet
from gatewayd.ota.patch import PatchEncoding
from gatewayd.ota.rules import Deliver, Payload, SlotMatch

VARINT, EXACT = PatchEncoding.VARINT, SlotMatch.EXACT
TWO_ROMS = (VECTORS / "two_roms_signed_encrypted.ota").read_bytes()


def read(message: bytes, payload: Payload = Payload.ADVANCED, keys: KeySet | None = KEYS) -> Firmware:
    return read_firmware(message, encoding=VARINT, payload=payload, keys=keys, allow_unsigned=False)


def test_a_standard_message_is_its_body() -> None:
    image = bytes(range(256))
    firmware = read(b"\xac\x02" + image, Payload.STANDARD, None)
    assert (firmware.patch, bytes(firmware.body), firmware.container) == (300, image, None)
    assert firmware.authenticated_timestamp_ms is None
    for deliver in Deliver:
        assert image_for(firmware, deliver=deliver, slot_address=0x2000, slot_match=EXACT) == image


def test_an_advanced_message_gives_the_rom_for_the_slot() -> None:
    firmware = read(b"\xac\x02" + TWO_ROMS)
    expected = open_container(TWO_ROMS, KEYS, allow_unsigned=False)
    assert firmware.container == expected
    assert firmware.authenticated_timestamp_ms == expected.timestamp_ms
    for rom in expected.roms:
        image = image_for(firmware, deliver=Deliver.ROM, slot_address=rom.address, slot_match=EXACT)
        assert image == rom.content


def test_a_device_that_verifies_itself_gets_the_container_as_published() -> None:
    image = image_for(
        read(b"\x05" + TWO_ROMS), deliver=Deliver.CONTAINER, slot_address=None, slot_match=EXACT
    )
    assert image == TWO_ROMS


def test_no_rom_for_the_slot() -> None:
    with pytest.raises(FirmwareError) as refused:
        image_for(read(b"\x05" + TWO_ROMS), deliver=Deliver.ROM, slot_address=0x3000, slot_match=EXACT)
    assert refused.value.code == "no_rom_for_slot"


@pytest.mark.parametrize(
    ("message", "keys", "code"),
    [
        (b"\x05" + PLAIN, KEYS, "unsigned"),
        (b"\x05" + SIGNED_ENCRYPTED, None, "no_decrypt_key"),
        (b"\x05" + SIGNED_ENCRYPTED, KeySet(KEY.decrypt_key), "no_verify_key"),
        (b"\x05" + SIGNED_ENCRYPTED[:-1], KEYS, "truncated"),
        (b"\x80\x02" + SIGNED_ENCRYPTED[2:], KEYS, "decrypt_failed"),
        (b"\x05", KEYS, "empty_firmware"),
        (b"", KEYS, "patch_truncated"),
    ],
)
def test_what_does_not_pass_says_why(message: bytes, keys: KeySet | None, code: str) -> None:
    with pytest.raises(FirmwareError) as refused:
        read(message, keys=keys)
    assert refused.value.code == code
