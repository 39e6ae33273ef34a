"""From spool files to verdicts and images."""

import asyncio
import gc
import hashlib
import weakref
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from lab.containers import KEYS, load_vectors
from lab.jobs import a_device, some_settings, standard_reading

from gatewayd.config import Device
from gatewayd.errors import FirmwareError, HostError
from gatewayd.images.reader import KEEP_S, FirmwareReader
from gatewayd.jobs.eligibility import profile_of
from gatewayd.jobs.model import DecodeProfile
from gatewayd.ota.container import decrypt
from gatewayd.ota.keys import KeySet
from gatewayd.ota.patch import PatchEncoding, encode_patch
from gatewayd.store.spool import Spool

TWO_ROMS = next(vector for vector in load_vectors() if len(vector.roms) == 2)
MESSAGE = encode_patch(300, PatchEncoding.VARINT) + TWO_ROMS.content
PLAIN_BYTES = len(decrypt(TWO_ROMS.content, KEYS.decrypt_key or b""))
PROFILE_KEY_BYTES = 100  # a profile's key is a hash, too, of its few settings
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


async def test_one_opening_serves_the_verdict_and_every_transfer(spool: Spool) -> None:
    sha256, _ = spool.write(MESSAGE)
    reader = FirmwareReader(spool)
    with mock.patch.object(spool, "read", wraps=spool.read) as read:
        verdict = await reader.verify(sha256, reading(ADVANCED), KEYS)
        first, second = await asyncio.gather(
            *(reader.open(sha256, reading(ADVANCED), KEYS) for _ in range(2))
        )
        assert first is second
        assert first.verdict() == verdict
        assert read.call_count == 1


async def test_each_part_is_hashed_once_for_the_verdict_and_every_transfer(spool: Spool) -> None:
    sha256, _ = spool.write(MESSAGE)
    reader = FirmwareReader(spool)
    hashed: list[int] = []
    real = hashlib.sha256

    def counting(data: bytes = b"", **options: bool) -> "hashlib._Hash":
        if len(data) > PROFILE_KEY_BYTES:
            hashed.append(len(data))
        return real(data, **options)

    with mock.patch("hashlib.sha256", counting):
        await reader.verify(sha256, reading(ADVANCED), KEYS)
        for address, _, _ in TWO_ROMS.roms:
            (await reader.open(sha256, reading(ADVANCED), KEYS)).image(ADVANCED, address)
    size, body = len(MESSAGE), len(TWO_ROMS.content)
    roms = [size for _, size, _ in TWO_ROMS.roms]
    # The file against its name, the container's plain form, the body as it was published, each ROM.
    assert sorted(hashed) == sorted([size, PLAIN_BYTES, body, *roms])


async def test_one_message_is_kept_and_for_a_while_only(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    due: list[tuple[float, Callable[[], None]]] = []

    def call_later(delay_s: float, let_go: Callable[[], None]) -> mock.Mock:
        due.append((delay_s, let_go))
        return mock.Mock()

    monkeypatch.setattr(loop, "call_later", call_later)
    sha256, _ = spool.write(MESSAGE)
    reader = FirmwareReader(spool)
    opened = weakref.ref(await reader.open(sha256, reading(ADVANCED), KEYS))
    gc.collect()
    assert opened() is not None
    other = weakref.ref(await reader.open(sha256, standard_reading(), None))  # another profile, other bytes
    gc.collect()
    assert opened() is None
    assert other() is not None
    delay_s, let_go = due[-1]
    assert delay_s == KEEP_S
    let_go()
    await asyncio.sleep(0)  # the executor's own callbacks hold it until then
    gc.collect()
    assert other() is None


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
