"""Bad firmware, from the message to the decision: nothing of it reaches a device, and what is genuine does.

The table in docs/security.md has a row for each attack here; `Siege.refuses` demands exactly the row's codes.
"""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lab.container_sources import OTHER, Source
from lab.containers import KEY, flip_bit
from lab.jobs import TOPIC_TEXT, timeless
from lab.mutants import (
    Class,
    chunk_order,
    contents,
    cut_outside,
    final_tags,
    longer_inside,
    longer_outside,
    magic,
    random_bits,
    reserved,
    rom_count,
    timestamp,
)
from lab.siege import GENUINE, IMAGE, INSTALLED_MS, LATER, NEW_MS, SLOT_BYTES, Siege, a_siege, packed, sent

from gatewayd.errors import FirmwareError
from gatewayd.jobs.transitions import JobState
from gatewayd.ota.keys import KeySet

attack = pytest.mark.attack
HUGE = 2**32 - 1  # the largest that passes


@pytest.fixture(name="codes")
def _codes(request: pytest.FixtureRequest) -> frozenset[str]:
    marker = request.node.get_closest_marker("attack")
    return frozenset(marker.args[1:])


@asynccontextmanager
async def besieged(folder: Path, **values: Any) -> AsyncIterator[Siege]:
    """Let 4.3.2 be installed first."""
    async with a_siege(folder, **values) as siege:
        await siege.install(sent(GENUINE, 2))
        yield siege


async def refuses_mutants(folder: Path, codes: frozenset[str], source: Source, *classes: Class) -> None:
    async with besieged(folder) as siege:
        await siege.refuses(codes, *(sent(mutant.data) for one in classes for mutant in one(source)))


ENCRYPTED = Source("signed, encrypted", packed(), signed=True, encrypted=True)
PLAIN = Source("signed, plain", packed(stream_key=None), signed=True, encrypted=False)


@attack("signed with another key", "bad_signature")
@timeless
async def test_another_signing_key(tmp_path: Path, codes: frozenset[str]) -> None:
    async with besieged(tmp_path) as siege:
        plain = packed(seed=OTHER.seed, stream_key=None)
        await siege.refuses(codes, sent(packed(seed=OTHER.seed)), sent(plain))


@attack("encrypted with another key", "decrypt_failed")
@timeless
async def test_another_stream_key(tmp_path: Path, codes: frozenset[str]) -> None:
    async with besieged(tmp_path) as siege:
        await siege.refuses(codes, sent(packed(stream_key=OTHER.stream_key)))


@attack("another application's genuine firmware", "bad_signature", "decrypt_failed")
@timeless
async def test_another_applications_firmware(tmp_path: Path, codes: frozenset[str]) -> None:
    async with besieged(tmp_path) as siege:
        theirs = packed(seed=OTHER.seed, stream_key=OTHER.stream_key)
        shared_stream_key = packed(seed=OTHER.seed)
        await siege.refuses(codes, sent(theirs), sent(shared_stream_key))


@attack(
    "each bit of the header flipped",
    *("bad_signature", "bad_timestamp", "decrypt_failed", "no_roms", "reserved_not_zero"),
    *("rom_too_large", "trailing_bytes"),
)
@timeless
async def test_every_header_bit(tmp_path: Path, codes: frozenset[str]) -> None:
    bits = [sent(flip_bit(PLAIN.data, bit)) for bit in range(128)]
    swapped = [sent(mutant.data) for mutant in magic(PLAIN)]
    async with besieged(tmp_path) as siege:
        await siege.refuses(codes, *bits, *swapped)


@pytest.mark.slow
@attack(
    "each bit of the header flipped before encryption",
    *("bad_magic", "bad_signature", "bad_timestamp", "no_roms", "reserved_not_zero", "rom_too_large"),
    "trailing_bytes",
)
@timeless
async def test_every_header_field_inside(tmp_path: Path, codes: frozenset[str]) -> None:
    await refuses_mutants(tmp_path, codes, ENCRYPTED, magic, timestamp, reserved, rom_count)


@pytest.mark.slow
@attack("1,000 bits flipped at random", "bad_signature", "bad_tag", "decrypt_failed", "truncated")
@timeless
async def test_random_bits(tmp_path: Path, codes: frozenset[str]) -> None:
    mutants = [*itertools.islice(random_bits(ENCRYPTED), 100, None), *contents(PLAIN)]
    assert len(mutants) > 1000
    async with besieged(tmp_path) as siege:
        await siege.refuses(codes, *(sent(mutant.data) for mutant in mutants))


@attack("cut at each chunk's border, and within", "empty_firmware", "no_final", "truncated")
@timeless
async def test_truncation(tmp_path: Path, codes: frozenset[str]) -> None:
    await refuses_mutants(tmp_path, codes, ENCRYPTED, cut_outside)


@attack("chunks swapped, doubled, left out", "bad_tag", "decrypt_failed", "no_final", "second_final")
@timeless
async def test_chunk_order(tmp_path: Path, codes: frozenset[str]) -> None:
    await refuses_mutants(tmp_path, codes, ENCRYPTED, chunk_order)


@attack("no FINAL", "no_final")
@timeless
async def test_no_final(tmp_path: Path, codes: frozenset[str]) -> None:
    none, *_ = final_tags(ENCRYPTED)
    async with besieged(tmp_path) as siege:
        await siege.refuses(codes, sent(none.data))


@attack("two FINALs", "second_final")
@timeless
async def test_two_finals(tmp_path: Path, codes: frozenset[str]) -> None:
    _, *two = final_tags(ENCRYPTED)
    async with besieged(tmp_path) as siege:
        await siege.refuses(codes, *(sent(mutant.data) for mutant in two))


@attack("1 byte to 1 MB behind the end", "second_final", "trailing_bytes")
@timeless
async def test_trailing_bytes(tmp_path: Path, codes: frozenset[str]) -> None:
    async with besieged(tmp_path) as siege:
        mutants = [*longer_outside(ENCRYPTED), *longer_inside(ENCRYPTED), *longer_inside(PLAIN)]
        await siege.refuses(codes, *(sent(mutant.data) for mutant in mutants))


@attack("an older build", "rollback")
@timeless
async def test_an_old_timestamp(tmp_path: Path, codes: frozenset[str]) -> None:
    async with besieged(tmp_path) as siege:
        one_ms, years = packed(INSTALLED_MS - 1, IMAGE[1:]), packed(1, IMAGE[2:])
        await siege.refuses(codes, sent(one_ms), sent(years))


@attack("another build of the same millisecond", "rollback")
@timeless
async def test_an_equal_timestamp(tmp_path: Path, codes: frozenset[str]) -> None:
    async with besieged(tmp_path) as siege:
        await siege.refuses(codes, sent(packed(INSTALLED_MS, IMAGE[1:])))


@attack("an equal version", "up_to_date")
@timeless
async def test_an_equal_version(tmp_path: Path, codes: frozenset[str]) -> None:
    async with besieged(tmp_path) as siege:
        await siege.refuses(codes, sent(GENUINE, 2), sent(packed(NEW_MS, IMAGE[1:]), 2))


@attack("a lower version", "not_newer")
@timeless
async def test_a_lower_version(tmp_path: Path, codes: frozenset[str]) -> None:
    async with besieged(tmp_path) as siege:
        await siege.refuses(codes, sent(packed(NEW_MS, IMAGE[1:]), 1), sent(packed(NEW_MS, IMAGE[1:]), 0))


@attack("a patch of 2^63 before bad firmware", "bad_magic", "bad_signature", "decrypt_failed")
@timeless
async def test_a_huge_patch_before_bad_firmware(tmp_path: Path, codes: frozenset[str]) -> None:
    bad = [
        packed(seed=OTHER.seed),
        packed(stream_key=OTHER.stream_key),
        packed(seed=OTHER.seed, stream_key=None),
    ]
    wrapped = ENCRYPTED.sealed(ENCRYPTED.data)
    async with besieged(tmp_path) as siege:
        await siege.refuses(codes, *(sent(one, patch) for one in (*bad, wrapped) for patch in (HUGE, 2**63)))


@attack("a patch of 2^63 before a genuine container, new or old", "patch_implausible")
@timeless
async def test_a_patch_that_nothing_could_exceed(tmp_path: Path, codes: frozenset[str]) -> None:
    """Also for a device that repeats the version it was offered: it would take no update any more."""
    new = packed(NEW_MS, IMAGE[1:])
    async with besieged(tmp_path) as siege:
        await siege.refuses(
            codes, *(sent(one, patch) for one in (new, GENUINE) for patch in (2**32, 2**63, 2**64 - 1))
        )
        assert await siege.runs() == "4.3.10"  # the update that came after them


@attack("a patch of 2^64, or one without an end", "patch_overflow", "patch_truncated")
@timeless
async def test_a_patch_beyond_the_range(tmp_path: Path, codes: frozenset[str]) -> None:
    patches = [b"\x80" * 9 + b"\x02", b"\xff" * 10 + b"\x01", b"\x80" * 100 + b"\x01"]
    async with besieged(tmp_path) as siege:
        messages = [replace(sent(b""), payload=patch + packed()) for patch in patches]
        await siege.refuses(codes, *messages, replace(sent(b""), payload=b"\xff" * 5))


@attack("a forged patch before the container that runs", "up_to_date")
@timeless
async def test_a_huge_patch_before_what_runs(tmp_path: Path, codes: frozenset[str]) -> None:
    async with besieged(tmp_path) as siege:
        await siege.refuses(codes, sent(GENUINE, HUGE))


@attack("a forged patch before an older container", "rollback")
@timeless
async def test_a_huge_patch_before_an_older_container(tmp_path: Path, codes: frozenset[str]) -> None:
    async with besieged(tmp_path) as siege:
        await siege.install(sent(packed(NEW_MS, IMAGE[1:]), 3))
        await siege.refuses(codes, sent(GENUINE, HUGE))


@attack("another minor's older message replayed on this topic", "rollback")
@timeless
async def test_another_minors_message(tmp_path: Path, codes: frozenset[str]) -> None:
    theirs = packed(INSTALLED_MS - 10, IMAGE[3:])
    async with besieged(tmp_path) as siege:
        assert await siege.hit(sent(theirs, 9, topic="/a/pump/u/4.2")) == "up_to_date"
        await siege.refuses(codes, sent(theirs, 9))


@attack("ROMs for another slot", "no_rom_for_slot")
@timeless
async def test_roms_for_another_slot(tmp_path: Path, codes: frozenset[str]) -> None:
    async with besieged(tmp_path) as siege:
        one = packed(addresses=[0x102000], image=IMAGE[1:])
        two = packed(addresses=[0x3000, 0x202000], image=IMAGE[1:])
        await siege.refuses(codes, sent(one), sent(two))


@attack("a ROM larger than the slot", "too_large")
@timeless
async def test_a_rom_larger_than_the_slot(tmp_path: Path, codes: frozenset[str]) -> None:
    async with besieged(tmp_path) as siege:
        await siege.refuses(codes, sent(packed(image=bytes(SLOT_BYTES + 1))))


@attack("a message larger than max_message_mib", "too_large")
@timeless
async def test_a_message_that_is_too_large(tmp_path: Path, codes: frozenset[str]) -> None:
    async with besieged(tmp_path) as siege:
        await siege.refuses(codes, sent(bytes(16 << 20)))


@attack("unsigned where a signature is demanded", "unsigned")
@timeless
async def test_unsigned(tmp_path: Path, codes: frozenset[str]) -> None:
    async with besieged(tmp_path) as siege:
        await siege.refuses(codes, sent(packed(seed=None)), sent(packed(seed=None, stream_key=None)))


@attack("plain where encryption is all that vouches", "not_encrypted")
@timeless
async def test_not_encrypted(tmp_path: Path, codes: frozenset[str]) -> None:
    keys = {"pump": KeySet(KEY.decrypt_key)}
    async with a_siege(tmp_path, keys) as siege:
        await siege.install(sent(packed(INSTALLED_MS, seed=None), 2))
        assert {await siege.hit(sent(packed(seed=None, stream_key=None)))} == codes
        await siege.install(sent(packed(NEW_MS, IMAGE[1:], seed=None), 10))


@attack("signed or encrypted, and no key to check it with", "no_decrypt_key", "no_verify_key")
@timeless
async def test_no_key(tmp_path: Path, codes: frozenset[str]) -> None:
    async with a_siege(tmp_path, {"pump": KeySet()}) as siege:
        signed = packed(stream_key=None)
        assert {await siege.hit(sent(one)) for one in (signed, packed())} == codes
        assert siege.rig.board.started == []


@attack("no container at all", "bad_magic")
@timeless
async def test_no_container(tmp_path: Path, codes: frozenset[str]) -> None:
    keys = {"pump": KeySet(None, KEY.verify_key)}
    async with a_siege(tmp_path, keys) as siege:
        await siege.install(sent(packed(INSTALLED_MS, stream_key=None), 2))
        assert {await siege.hit(sent(one)) for one in (IMAGE, b"\xe9", IMAGE[:15])} == codes
        await siege.install(sent(packed(NEW_MS, IMAGE[1:], stream_key=None), 10))


@attack("published with QoS 0", "qos0")
@timeless
async def test_qos_0(tmp_path: Path, codes: frozenset[str]) -> None:
    async with besieged(tmp_path) as siege:
        with pytest.raises(FirmwareError) as refused:
            await siege.router.accept(sent(packed(), qos=0))
        assert {refused.value.code} == codes
        await siege.refuses(set())


@attack("a topic that is not of the configured form", "not_ours")
@timeless
async def test_a_foreign_topic(tmp_path: Path, codes: frozenset[str]) -> None:
    topics = (
        "a/pump/u/4.3",
        "/a/pump/u/4.03",
        "/a/pump/u/4.3/x",
        f"{TOPIC_TEXT}/u/",
        "push:pump-1",
        "/a//u/4.3",
    )
    async with besieged(tmp_path) as siege:
        await siege.refuses(codes, *(sent(packed(), topic=topic) for topic in topics))


@attack("a forged patch before a genuine container that is new: it is what it is", "version_differs")
@timeless
async def test_new_firmware_under_a_forged_patch_is_what_it_is_and_blocks_nothing(tmp_path: Path) -> None:
    async with besieged(tmp_path) as siege:
        siege.rig.board.calls_itself = "4.3.3"  # which is built into it
        await siege.install(sent(packed(NEW_MS, IMAGE[1:]), HUGE))
        assert (await siege.rig.last()).code == "version_differs"
        assert await siege.runs() == "4.3.3"
        siege.rig.board.calls_itself = "4.3.4"
        await siege.install(sent(LATER, 4))
        assert await siege.runs() == "4.3.4"


@attack("the same, and a device that repeats what it was offered", "not_newer")
@timeless
async def test_a_device_without_a_version_of_its_own_needs_a_person_after_that(tmp_path: Path) -> None:
    async with besieged(tmp_path) as siege:
        await siege.install(sent(packed(NEW_MS, IMAGE[1:]), HUGE))
        assert await siege.runs() == f"4.3.{HUGE}"
        assert await siege.hit(sent(LATER, 4)) == "not_newer"
        device = siege.rig.reconciler.settings.devices[0].model_copy(update={"allow_downgrade": True})
        await siege.configure(device)
        await siege.rig.until_state(JobState.SUCCEEDED, 3)
        await siege.rig.reconciler.settled()
        assert await siege.runs() == "4.3.4"
