"""What a message that arrives is worth, and what becomes of one that is not stored."""

from pathlib import Path

import pytest
from lab.containers import KEY
from lab.jobs import KEYS, OTHER_KEYS, TOPIC, TOPIC_TEXT, World, a_device, clock, timeless
from lab.siege import LATER_MS, NEW_MS, SLOT, packed, sent

from gatewayd.images.reader import FirmwareReader
from gatewayd.ota.keys import KeySet
from gatewayd.planning.arrivals import Arrivals, NotKeptError
from gatewayd.planning.planner import StoreSnapshot
from gatewayd.store.spool import Spool

LARGE = bytes(range(256)) * 4096


class Desk:
    """Arrivals of a device with keys, in front of a world."""

    def __init__(self, folder: Path, *, keys: KeySet | None = None) -> None:
        self.world = World(a_device(payload="advanced", keys="pump"))
        self.world.key_sets = {"pump": keys or KEY.key_set()}
        self.world.says(version="4.3.1", slot_address=SLOT, slot_size=2 << 20)
        firmware = FirmwareReader(Spool(folder / "spool"))
        self.arrivals = Arrivals(lambda: self.world.settings, self.known, firmware, clock)

    async def known(self) -> StoreSnapshot:
        return self.world.known

    async def is_stored(self, payload: bytes) -> bool:
        try:
            verdicts = await self.arrivals.weigh(TOPIC, TOPIC_TEXT, payload)
        except NotKeptError as error:
            self.refusal = error
            return False
        assert verdicts
        return True

    def changed(self) -> bool:
        return TOPIC_TEXT in self.arrivals.changed(self.world.known, {TOPIC_TEXT: self.refusal})


@timeless
async def test_a_large_message_without_a_key_is_never_stored_and_small_ones_within_a_limit(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path)
    assert not await desk.is_stored(b"\x02" + LARGE)
    stored = [await desk.is_stored(b"\x02" + bytes([number]) * 300) for number in range(30)]
    assert stored[0]
    assert 2 <= stored.count(True) <= 8


@timeless
async def test_what_is_genuine_is_stored_however_much_was_refused(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    for number in range(30):
        await desk.is_stored(b"\x02" + bytes([number]) * 300)
    assert not await desk.is_stored(b"\x02" + bytes(300))
    assert await desk.is_stored(sent(packed(NEW_MS, LARGE), 2).payload)
    assert await desk.is_stored(sent(packed(LATER_MS, LARGE), 3).payload)


@timeless
async def test_a_message_that_was_not_kept_is_asked_for_again_when_keys_change(tmp_path: Path) -> None:
    desk = Desk(tmp_path, keys=OTHER_KEYS)
    genuine = sent(packed(NEW_MS, LARGE), 2).payload
    assert not await desk.is_stored(genuine)
    assert not desk.changed()
    desk.world.key_sets = {"pump": KEYS}
    assert desk.changed()
    assert not await desk.is_stored(genuine), "those are not the keys either"
    assert not desk.changed(), "asked once for each change"
    desk.world.key_sets = {"pump": KEY.key_set()}
    assert desk.changed()
    assert await desk.is_stored(genuine)


@pytest.mark.parametrize("version", ["4.3.0", "4.3.2"])
@timeless
async def test_a_message_that_no_device_takes_is_asked_for_again_when_a_device_changes(
    tmp_path: Path, version: str
) -> None:
    desk = Desk(tmp_path)
    desk.world.says(version="4.3.3", slot_address=SLOT, slot_size=2 << 20)
    assert await desk.is_stored(sent(packed(NEW_MS, LARGE), 2).payload), "the first may be for a spare board"
    assert not await desk.is_stored(sent(packed(NEW_MS + 1, LARGE), 3).payload)
    assert desk.refusal.code == "not_newer"
    assert not desk.changed()
    desk.world.says(version=version, slot_address=SLOT, slot_size=2 << 20)
    assert desk.changed()
    assert await desk.is_stored(sent(packed(NEW_MS + 1, LARGE), 3).payload)
