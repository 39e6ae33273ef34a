"""The flash model behaves as NOR flash does."""

import pytest

from gatewayd.simulator.flash import Flash, FlashMisuse, FlashReadError, PowerCut


def make() -> Flash:
    return Flash(4096, erase_block=1024, write_unit=8)


def test_what_is_written_is_read() -> None:
    flash = make()
    flash.write(8, b"01234567")
    assert flash.read(0, 24) == b"\xff" * 8 + b"01234567" + b"\xff" * 8
    assert flash.operations == 1


def test_a_written_unit_is_not_written_again() -> None:
    flash = make()
    flash.write(0, bytes(8))
    with pytest.raises(FlashMisuse):
        flash.write(0, b"01234567")
    flash.erase(0)
    flash.write(0, b"01234567")
    assert flash.erases == {0: 1}


@pytest.mark.parametrize(("address", "size"), [(4, 8), (0, 4), (4096, 8), (4092, 8)])
def test_writes_are_whole_units_within_the_flash(address: int, size: int) -> None:
    with pytest.raises(FlashMisuse):
        make().write(address, bytes(size))


@pytest.mark.parametrize("address", [512, 4096, -1024])
def test_erases_are_whole_blocks_within_the_flash(address: int) -> None:
    with pytest.raises(FlashMisuse):
        make().erase(address)


def test_a_cut_tears_the_unit_it_falls_on_and_nothing_after_it() -> None:
    flash = make()
    flash.cut_at = 3
    with pytest.raises(PowerCut):
        flash.write(0, bytes(40))
    assert flash.operations == 3
    assert flash.read(0, 16) == bytes(16)
    assert flash.read(16, 8) not in (bytes(8), b"\xff" * 8)  # torn, for this seed
    assert flash.is_blank(24, 16)
    flash.write(24, bytes(8))  # one cut only


def test_a_cut_leaves_a_block_half_erased() -> None:
    flash = make()
    flash.write(0, bytes(1024))
    flash.cut_at = flash.operations + 1
    with pytest.raises(PowerCut):
        flash.erase(0)
    content = flash.read(0, 1024)
    assert content.startswith(b"\xff")
    assert content.endswith(b"\0")


def test_a_torn_unit_may_be_unreadable_until_it_is_erased() -> None:
    flash = Flash(4096, erase_block=1024, write_unit=8, torn_unreadable=True)
    flash.cut_at = 1
    with pytest.raises(PowerCut):
        flash.write(8, bytes(8))
    for address in (1, 8, 15):
        with pytest.raises(FlashReadError):
            flash.read(address, 8)
    assert flash.read(0, 8) == flash.read(16, 8)
    assert not flash.is_blank(8, 8)
    flash.erase(0)
    assert flash.is_blank(8, 8)
