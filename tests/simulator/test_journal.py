"""The journal remembers the old or the new, whenever the power fails (docs/protocol.md, section 6)."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewayd.simulator.flash import Flash, PowerCut
from gatewayd.simulator.journal import FlashJournal, Memory

AREA = 1024
Step = Callable[[FlashJournal], None]


def sha(number: int) -> bytes:
    return bytes([number]) * 32


def make_flash(*, write_unit: int = 8, torn_unreadable: bool = False) -> Flash:
    return Flash(4 * AREA, erase_block=AREA, write_unit=write_unit, torn_unreadable=torn_unreadable)


def open_journal(flash: Flash) -> FlashJournal:
    return FlashJournal(flash, area_size=AREA)


STEPS = st.one_of(
    st.builds(lambda n: lambda j: j.receiving(sha(n), 1000 + n), st.integers(1, 5)),
    st.builds(lambda n: lambda j: j.progress(n * 4096, n), st.integers(1, 1000)),
    st.just(lambda j: j.full(7)),
    st.builds(lambda n, c: lambda j: j.tried(sha(n), c), st.integers(1, 5), st.integers(1, 3)),
    st.builds(lambda n: lambda j: j.confirmed(sha(n)), st.integers(1, 5)),
    st.just(lambda j: j.forget()),
)


def test_blank_flash_says_nothing_and_reading_writes_nothing() -> None:
    flash = make_flash()
    assert open_journal(flash).memory == Memory()
    assert flash.operations == 0


@given(st.lists(STEPS, max_size=120), st.sampled_from([1, 8, 32]))
def test_what_was_written_is_remembered(steps: list[Step], write_unit: int) -> None:
    flash = make_flash(write_unit=write_unit)
    journal = open_journal(flash)
    for step in steps:
        step(journal)
    assert open_journal(flash).memory == journal.memory


@given(st.lists(STEPS, min_size=1, max_size=80), st.integers(1, 2000), st.booleans())
def test_a_power_cut_leaves_the_old_or_the_new(steps: list[Step], cut_at: int, torn_unreadable: bool) -> None:
    flash = make_flash(torn_unreadable=torn_unreadable)
    journal = open_journal(flash)
    flash.cut_at = cut_at
    for at, step in enumerate(steps):
        before = journal.memory
        try:
            step(journal)
        except PowerCut:
            found = open_journal(flash).memory
            fresh = open_journal(make_flash())
            for done in steps[: at + 1]:
                done(fresh)
            assert found in (before, fresh.memory)
            _use_on(flash, steps)
            return


def _use_on(flash: Flash, steps: list[Step]) -> None:
    """After a cut the journal takes whatever comes, and keeps it."""
    journal = open_journal(flash)
    for step in steps:
        step(journal)
    assert open_journal(flash).memory == journal.memory


def test_a_full_area_erases_the_older_one() -> None:
    flash = make_flash()
    journal = open_journal(flash)
    journal.receiving(sha(1), 10**6)
    for n in range(1, 200):
        journal.progress(n * 4096, n)
    erased = flash.erases
    assert set(erased) == {0, 1}  # nothing behind the journal
    assert abs(erased[0] - erased[1]) <= 1  # taking turns


def test_two_erases_per_mib_with_4_kib_blocks() -> None:
    flash = Flash(2 * 4096, erase_block=4096, write_unit=8)
    journal = FlashJournal(flash, area_size=4096)
    journal.receiving(sha(1), 2**20)
    for n in range(1, 257):
        journal.progress(n * 4096, n)
    assert sum(flash.erases.values()) <= 2


def test_a_remnant_of_an_earlier_generation_is_no_record() -> None:
    """An erase that was torn left old records behind the new START; the seed of the CRC gives them away."""
    flash = make_flash()
    journal = open_journal(flash)
    journal.receiving(sha(1), 1000)
    position = journal._position  # noqa: SLF001 - where the next record goes
    journal.tried(sha(9), 1)
    remnant = flash.read(position, 48)
    again = make_flash()
    fresh = open_journal(again)
    fresh._generation = 5  # noqa: SLF001 - a later use of the same area
    fresh.receiving(sha(1), 1000)
    again.write(position, remnant)
    assert open_journal(again).memory.tried_count == 0


@pytest.mark.parametrize("erase_block", [128, 512, 4096, 131072])
def test_any_erase_block_makes_a_journal(erase_block: int) -> None:
    area = -(-1024 // erase_block) * erase_block
    flash = Flash(2 * area, erase_block=erase_block, write_unit=8)
    journal = FlashJournal(flash, area_size=area)
    for n in range(200):
        journal.tried(sha(n), 1)
    assert FlashJournal(flash, area_size=area).memory.tried_sha256 == sha(199)
