"""The power fails at every flash operation of an update: old or new image, and the update gets there."""

import dataclasses
import hashlib

import pytest
from lab.receiver_bench import IMAGE, OLD, PROFILE, Bench

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.framing import encode_stream
from gatewayd.simulator.bootloader import Bootloader
from gatewayd.simulator.file_store import MemoryShelf
from gatewayd.simulator.flash import Flash
from gatewayd.simulator.receiver import Receiver

# Large units keep the number of operations, and so the length of this test, within bounds.
UNITS = dataclasses.replace(PROFILE, slot_size=32768, erase_block=2048, write_unit=64)


def start(*, torn_unreadable: bool) -> Bench:
    shelf = MemoryShelf()
    shelf.write("active.bin", OLD)
    flash = Flash(
        UNITS.flash_size,
        erase_block=UNITS.erase_block,
        write_unit=UNITS.write_unit,
        torn_unreadable=torn_unreadable,
    )
    return Bench(Receiver(UNITS, flash=flash, bootloader=Bootloader(shelf, UNITS)))


def operations() -> int:
    on = start(torn_unreadable=False)
    assert on.update()
    return on.receiver.flash.operations


@pytest.mark.parametrize("torn_unreadable", [False, True])
def test_power_cut_at_every_flash_operation(torn_unreadable: bool) -> None:
    count = operations()
    for cut_at in range(1, count + 1):
        on = start(torn_unreadable=torn_unreadable)
        on.receiver.flash.cut_at = cut_at
        on.one_pass()
        on.wait(1.0)
        assert on.receiver.running_image in (OLD, IMAGE), cut_at
        assert on.update(), f"does not get there after a cut at operation {cut_at} of {count}"
        assert on.receiver.running_version == "1.0.1"
        again = UNITS.window + 4096 + UNITS.erase_block  # a window, and what one progress record covers
        assert on.image_bytes_sent <= len(IMAGE) + again, cut_at
    print(f"{count} operations, each cut once")  # noqa: T201 - the number is the test's result


def test_what_comes_in_the_same_piece_after_a_cut_is_lost() -> None:
    on = start(torn_unreadable=False)
    session = on.bring_in(upto=1024)
    on.receiver.flash.cut_at = on.receiver.flash.operations + 1
    data = encode_stream(frames.Data(session, 1024, IMAGE[1024:2048]).to_bytes())
    assert on.say(data + b"noise" + data) == []
    assert on.update()


def test_two_cuts_in_one_update() -> None:
    count = operations()
    for first in range(1, count + 1, 7):
        for second in range(1, count + 1, 11):
            on = start(torn_unreadable=True)
            for cut in (first, second):
                on.receiver.flash.cut_at = on.receiver.flash.operations + cut
                on.one_pass()
                on.wait(1.0)
            on.receiver.flash.cut_at = None
            assert on.update(), (first, second)


def test_activate_lost_and_an_unrelated_power_cut_is_not_a_revert() -> None:
    on = start(torn_unreadable=False)
    on.stage()
    on.receiver.power_cut(on.now)
    info = on.hello()
    assert (info.tried_sha256, info.image_state.name) == (None, "CONFIRMED")
    assert on.update()


def test_a_cut_between_record_and_boot_flag_is_told_apart_and_tried_once_more() -> None:
    on = start(torn_unreadable=False)
    session = on.stage()
    records = -(
        -64 // UNITS.write_unit
    )  # the record of `tried` fits one unit; the next operation is the flag
    on.receiver.flash.cut_at = on.receiver.flash.operations + records + 1
    on.activate(session)
    info = on.hello()
    sha256 = hashlib.sha256(IMAGE).digest()
    assert (info.tried_sha256, info.tried_count, info.image_state.name) == (sha256, 1, "CONFIRMED")
    assert on.update()
    assert on.hello().tried_count == 2
