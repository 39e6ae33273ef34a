"""From spool files to verdicts and images."""

import asyncio
import gc
from pathlib import Path
from unittest import mock

import pytest
from lab.containers import KEYS, load_vectors
from lab.jobs import a_device, some_settings, standard_reading

from gatewayd.config import Device
from gatewayd.errors import FirmwareError, HostError
from gatewayd.images.reader import FirmwareReader
from gatewayd.jobs.eligibility import profile_of
from gatewayd.jobs.model import DecodeProfile
from gatewayd.ota.keys import KeySet
from gatewayd.ota.patch import PatchEncoding, encode_patch
from gatewayd.store.spool import Spool

TWO_ROMS = next(vector for vector in load_vectors() if len(vector.roms) == 2)
MESSAGE = encode_patch(300, PatchEncoding.VARINT) + TWO_ROMS.content
ADVANCED = a_device(payload="advanced", keys="pump")


def reading(device: Device, keys: KeySet = KEYS) -> DecodeProfile:
    return profile_of(some_settings(device, key_sets={"pump": keys}), device)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


async def test_the_verdict_on_a_container_holds_its_facts(spool: Spool) -> None:
    sha256, _ = spool.write(MESSAGE)
    verdict = await FirmwareReader(spool).verify(sha256, reading(ADVANCED), KEYS)
    assert verdict.is_genuine
    assert (verdict.patch, verdict.body_size) == (300, len(TWO_ROMS.content))
    assert [(rom.address, rom.size, rom.sha256) for rom in verdict.roms] == TWO_ROMS.roms
    assert verdict.timestamp_ms is not None
    assert len(verdict.container_sha256) == 64


async def test_the_verdict_on_a_standard_payload_has_no_timestamp(spool: Spool) -> None:
    sha256, _ = spool.write(MESSAGE)
    verdict = await FirmwareReader(spool).verify(sha256, standard_reading(), None)
    assert (verdict.is_genuine, verdict.timestamp_ms, verdict.container_sha256, verdict.roms) == (
        True,
        None,
        "",
        (),
    )


@pytest.mark.parametrize(
    ("message", "keys", "code"),
    [
        (MESSAGE, KeySet(KEYS.decrypt_key, bytes(32)), "bad_signature"),
        (MESSAGE, KeySet(bytes(32), KEYS.verify_key), "decrypt_failed"),
        (MESSAGE, KeySet(None, KEYS.verify_key), "no_decrypt_key"),
        (b"\x80", KEYS, "patch_truncated"),
        (b"\x01", KEYS, "empty_firmware"),
        (MESSAGE[:-1], KEYS, "truncated"),
    ],
)
async def test_a_refusal_is_a_verdict_with_its_code(
    spool: Spool, message: bytes, keys: KeySet, code: str
) -> None:
    sha256, _ = spool.write(message)
    verdict = await FirmwareReader(spool).verify(sha256, reading(ADVANCED, keys), keys)
    assert (verdict.is_genuine, verdict.code) == (False, code)
    assert verdict.reason


async def test_a_damaged_file_is_no_verdict(spool: Spool) -> None:
    with pytest.raises(HostError):
        await FirmwareReader(spool).verify("0" * 64, standard_reading(), None)


async def test_those_who_need_it_share_one_buffer_and_nobody_keeps_it(spool: Spool) -> None:
    sha256, _ = spool.write(MESSAGE)
    reader = FirmwareReader(spool)
    with mock.patch.object(spool, "read", wraps=spool.read) as read:
        first, second = await asyncio.gather(
            *(reader.open(sha256, reading(ADVANCED), KEYS) for _ in range(2))
        )
        assert first is second
        assert read.call_count == 1
        other = await reader.open(sha256, standard_reading(), None)  # another reading, other bytes
        assert other is not first
        del first, second
        gc.collect()
        await reader.open(sha256, reading(ADVANCED), KEYS)
        assert read.call_count == 3


async def test_the_image_is_that_for_the_slot(spool: Spool) -> None:
    sha256, _ = spool.write(MESSAGE)
    opened = await FirmwareReader(spool).open(sha256, reading(ADVANCED), KEYS)
    for address, size, digest in TWO_ROMS.roms:
        content, sha = opened.image(ADVANCED, address)
        assert (len(content), sha.hex()) == (size, digest)
    with pytest.raises(FirmwareError) as caught:
        opened.image(ADVANCED, None)
    assert caught.value.code == "no_rom_for_slot"
    whole = a_device(payload="advanced", keys="pump", deliver="container")
    assert bytes(opened.image(whole, None)[0]) == TWO_ROMS.content


async def test_opening_what_is_refused(spool: Spool) -> None:
    sha256, _ = spool.write(MESSAGE)
    with pytest.raises(FirmwareError):
        await FirmwareReader(spool).open(sha256, reading(ADVANCED, KeySet(bytes(32))), KeySet(bytes(32)))
