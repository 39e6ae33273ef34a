"""A receiver loses its power, or its flash fails, at every flash operation of an update.

It runs the old or the new image, and the update gets there. The flash of the receiver in C can do more.
"""

import dataclasses
import hashlib
from collections.abc import Callable

import pytest
from lab.c_receiver_bench import CBench, c_bench
from lab.rcp.devices import Device
from lab.receiver_bench import IMAGE, OLD, PROFILE, SHA, Bench, python_bench

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.framing import encode_stream
from gatewayd.protocol.rcp.tlv_frames import Confirm
from gatewayd.protocol.session import ImageState

pytestmark = pytest.mark.slow

Make = Callable[[], CBench]
# Large units keep the number of operations, and so the length of these tests, within bounds.
UNITS = dataclasses.replace(PROFILE, slot_size=32768, erase_block=2048, write_unit=64)
C_MODES: dict[str, Make] = {
    "torn": c_bench,
    "torn and unreadable": lambda: c_bench(torn_unreadable=True),
    "before the operation": lambda: planned_before(c_bench()),
    "everything erased first": lambda: c_bench(erase_ahead=PROFILE.slot_size, torn_unreadable=True),
    "large blocks": lambda: c_bench(erase_block=8192, write_unit=64),
    "small blocks": lambda: c_bench(erase_block=512, write_unit=32, torn_unreadable=True),
}
MODES: dict[str, Callable[[], Bench[Device]]] = {
    **{f"c, {mode}": make for mode, make in C_MODES.items()},
    "python, torn": lambda: python_bench(UNITS),
    "python, torn and unreadable": lambda: python_bench(UNITS, torn_unreadable=True),
}
UNREADABLE: dict[str, tuple[Callable[[int], Bench[Device]], int, int]] = {
    "c": (lambda seed: c_bench(torn_unreadable=True, seed=seed), 41, 43),
    "python": (lambda _seed: python_bench(UNITS, torn_unreadable=True), 7, 11),
}
BOTH: dict[str, Callable[[], Bench[Device]]] = {"c": c_bench, "python": lambda: python_bench(UNITS)}


def planned_before(on: CBench) -> CBench:
    on.device.flash.cut_before()
    return on


def operations(make: Callable[[], Bench[Device]]) -> int:
    on = make()
    assert on.update()
    return on.device.flash.operations


@pytest.mark.parametrize("mode", MODES)
def test_power_cut_at_every_flash_operation(mode: str) -> None:
    count = operations(MODES[mode])
    for cut_at in range(1, count + 1):
        on = MODES[mode]()
        on.device.flash.cut_at = cut_at
        on.one_pass()
        on.wait(1.0)
        assert on.device.running_image in (OLD, IMAGE), cut_at
        assert on.update(), f"does not get there after a cut at operation {cut_at} of {count}"
        assert on.device.running_version == "1.0.1"
        assert on.unsound == 0
        again = on.device.profile.window + max(on.device.profile.erase_block, 4096)
        assert on.image_bytes_sent <= len(IMAGE) + again, cut_at
    print(f"{mode}: {count} operations, each cut once")  # noqa: T201 - the number is the test's result


@pytest.mark.parametrize("who", UNREADABLE)
def test_two_cuts_in_one_update(who: str) -> None:
    make, every, other = UNREADABLE[who]
    count = operations(BOTH[who])
    for first in range(1, count + 1, every):
        for second in range(1, count + 1, other):
            on = make(first)
            for cut in (first, second):
                on.device.flash.cut_at = on.device.flash.operations + cut
                on.one_pass()
                on.wait(1.0)
            on.device.flash.cut_at = None
            assert on.update(), (first, second)
            assert on.unsound == 0


def test_a_cut_at_every_operation_of_a_boot_that_records_a_revert() -> None:
    for cut in range(1, 20):
        on = c_bench(torn_unreadable=True, seed=cut)
        on.activate(on.stage(), trial_s=5)
        on.wait(1)
        assert on.hello().image_state is ImageState.ON_TRIAL
        on.device.flash.cut_at = on.device.flash.operations + cut
        on.wait(10)
        info = on.hello()
        assert (info.image_state, info.tried_sha256, info.tried_count) == (ImageState.REVERTED, SHA, 1), cut


@pytest.mark.parametrize("mode", ["torn", "small blocks"])
def test_an_operation_that_fails(mode: str) -> None:
    count = operations(C_MODES[mode])
    for number in range(1, count + 1):
        on = C_MODES[mode]()
        on.device.flash.fail_at(number)
        on.one_pass()
        on.wait(1.0)
        assert on.device.running_image in (OLD, IMAGE), number
        assert on.update(), f"does not get there after operation {number} of {count} failed"
        assert on.unsound == 0


# Rule 9: an image that was given up is never started again by itself; one that never started is.


@pytest.mark.parametrize("how", ["broken", "silent"])
def test_a_bad_image_is_started_once_wherever_the_power_fails(how: str) -> None:
    """`broken`: it never gets to its receiver; `silent`: it does, and the bootloader does not tell."""

    def make() -> CBench:
        if how == "broken":
            return c_bench(break_after_activate=True, trial_cap_s=2, torn_unreadable=True)
        return c_bench(trial_cap_s=2, tells_revert=False, torn_unreadable=True)

    count = operations(c_bench)
    for cut_at in [None, *range(count - 60, count + 20)]:  # from the last bytes of the image on
        on = make()
        on.confirms = False
        on.device.flash.cut_at = cut_at
        for _ in range(4):
            on.one_pass()
            on.wait(5)
        assert on.device.starts == 1, cut_at
        assert on.device.running_image == OLD
        assert on.hello().image_state is ImageState.REVERTED


@pytest.mark.parametrize("who", BOTH)
def test_activate_lost_and_an_unrelated_power_cut_is_not_a_revert(who: str) -> None:
    on = BOTH[who]()
    on.stage()
    on.device.power_cut(on.now)
    info = on.hello()
    assert (info.tried_sha256, info.image_state) == (None, ImageState.CONFIRMED)
    assert on.update()
    assert on.hello().tried_count == 1


@pytest.mark.parametrize("who", BOTH)
def test_a_cut_between_record_and_boot_flag_is_told_apart_and_tried_once_more(who: str) -> None:
    on = BOTH[who]()
    on.cut_at_flag()
    info = on.hello()
    assert (info.tried_sha256, info.tried_count, info.image_state) == (SHA, 1, ImageState.CONFIRMED)
    assert on.update()
    assert on.hello().tried_count == 2


def test_a_cut_between_confirmation_and_record_leaves_it_confirmed() -> None:
    for after in range(1, 14):
        on = c_bench(tells_revert=False)
        on.activate(on.stage())
        on.wait(1)
        on.device.flash.cut_at = on.device.flash.operations + 1 + after
        on.ask(Confirm(3, sha256=SHA))
        on.wait(1)
        assert on.hello().image_state is ImageState.CONFIRMED, after
        on.device.power_cut(on.now)
        info = on.hello()
        assert (info.version, info.image_state) == ("1.0.1", ImageState.CONFIRMED), after


def test_a_record_that_cannot_be_written_leaves_the_one_before_in_force() -> None:
    """The write fails, then the power does, at every operation of the attempt that follows."""
    for cut in range(1, 16):
        on = c_bench(torn_unreadable=True, seed=cut)
        on.activate(on.stage(), trial_s=1)
        on.wait(3)
        assert on.hello().image_state is ImageState.REVERTED
        flash = on.device.flash
        flash.fail_at(flash.operations + 3)  # an erase, a unit, and this one
        flash.cut_at = flash.operations + 3 + cut
        on.offer(OLD + IMAGE)
        on.offer(OLD + IMAGE[::-1])
        on.wait(1)
        on.device.power_cut(on.now)
        assert on.hello().tried_sha256 == SHA, cut


@pytest.mark.parametrize("who", BOTH)
def test_what_comes_after_a_cut_is_lost(who: str) -> None:
    on = BOTH[who]()
    session = on.bring_in(upto=1024)
    on.device.flash.cut_at = on.device.flash.operations + 1
    assert on.data(session, 1024) == []
    assert on.data(session, 2048) == []
    assert on.update()


@pytest.mark.parametrize("who", BOTH)
def test_what_comes_in_the_same_piece_after_a_cut_is_lost(who: str) -> None:
    on = BOTH[who]()
    session = on.bring_in(upto=1024)
    on.device.flash.cut_at = on.device.flash.operations + 1
    data = encode_stream(frames.Data(session, 1024, IMAGE[1024:2048]).to_bytes())
    assert on.say(data + b"noise" + data) == []
    assert on.update()


def test_a_full_image_is_hashed_again_after_a_restart() -> None:
    on = c_bench()
    on.stage()
    on.device.power_cut(on.now)
    on.hello()
    accept = on.offer()[-1]
    assert isinstance(accept, frames.Accept)
    assert (accept.offset, accept.prefix_crc) == (len(IMAGE), __import__("zlib").crc32(IMAGE))
    assert on.activate(accept.session)[0] == frames.Error(accept.session, 0x0106)
    assert hashlib.sha256(on.device.flash.read(on.device.flash.slot, len(IMAGE))).digest() == SHA
    assert on.update()
