"""The receiver in C over a device's life: an older journal, erasing, hashing, false trials, events."""

import dataclasses
import hashlib
from pathlib import Path

import pytest
from lab.c_receiver import DEVICE
from lab.c_receiver_bench import CBench, c_bench
from lab.receiver_bench import IMAGE, OLD, PROFILE, SHA, without_busy

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.codes import RcpCode
from gatewayd.protocol.rcp.framing import encode_stream
from gatewayd.protocol.session import ImageState

JOURNALS = Path(__file__).parent / "journals"
OPTIONS = DEVICE / "build" / "librcp-lab-options.so"
OTHER = IMAGE[::-1]


def with_journal(name: str, **changes: object) -> CBench:
    """A device that runs OLD, started on a journal as the receiver of November 2026 wrote it."""
    on = c_bench(**changes)  # type: ignore[arg-type]  # by name
    for line in (JOURNALS / name).read_text().splitlines():
        at, content = line.split()
        for index, byte in enumerate(bytes.fromhex(content), int(at, 16)):
            on.device.flash.cells[index] = byte
    on.device.power_cut(on.now)
    return on


def test_an_older_receiver_s_journal_keeps_what_it_tried_and_how_far_it_got() -> None:
    on = with_journal("reverted-and-receiving.txt")
    for at, byte in enumerate(OTHER[:4096], on.device.flash.slot):
        on.device.flash.cells[at] = byte
    info = on.hello()
    assert (info.tried_sha256, info.tried_count, info.image_state) == (SHA, 1, ImageState.REVERTED)
    assert without_busy(on.offer()) == [frames.Refuse(1, RcpCode.ALREADY_TRIED)]
    accept = without_busy(on.offer(OTHER))[-1]
    assert isinstance(accept, frames.Accept)
    assert accept.offset == 4096
    assert on.update(OTHER)
    assert on.hello().tried_count == 1


@pytest.mark.parametrize("name", ["tried-not-started.txt", "confirmed.txt"])
def test_an_older_receiver_s_journal_counts_the_tries(name: str) -> None:
    on = with_journal(name)
    info = on.hello()
    if name == "confirmed.txt":  # and now OLD runs: it was put back by a cable
        assert (info.tried_sha256, info.tried_count, info.image_state) == (SHA, 1, ImageState.CONFIRMED)
        return
    assert (info.tried_sha256, info.tried_count, info.image_state) == (SHA, 1, ImageState.CONFIRMED)
    assert without_busy(on.offer()) == [frames.Refuse(1, RcpCode.ALREADY_TRIED)]
    assert on.update()
    assert on.hello().tried_count == 2


def test_one_poll_erases_one_block() -> None:
    on = c_bench(erase_block=512)  # a journal area is more than one
    assert on.device.profile.journal_area > 512
    for image in (IMAGE, OTHER):
        assert on.update(image)
    assert on.device.most_erases == 1


def test_finish_is_answered_at_once() -> None:
    """What was received is hashed already: no BUSY, and no other round of the main loop."""
    on = c_bench(slot_size=2**20)
    image = OLD * 1000
    session = on.bring_in(image)
    assert on.ask(frames.Finish(session)) == [frames.Finished(session, hashlib.sha256(image).digest())]


def test_after_a_restart_the_rest_is_hashed_while_bytes_come() -> None:
    on = c_bench()
    on.bring_in(upto=8192)
    on.device.power_cut(on.now)
    on.hello()
    session = on.bring_in()  # the bench lets it catch up
    assert on.ask(frames.Finish(session)) == [frames.Finished(session, SHA)]


def test_finish_is_busy_only_until_the_hash_has_caught_up() -> None:
    on = c_bench()
    on.bring_in()
    on.device.power_cut(on.now)
    on.hello()
    on.device.queue(encode_stream(on.make_offer(7).to_bytes()) + encode_stream(frames.Finish(7).to_bytes()))
    kinds = [type(answer) for answer in on.wait()]
    assert kinds == [frames.Accept, frames.Busy, frames.Finished]


def test_an_aborted_staged_image_is_hashed_again() -> None:
    on = c_bench()
    session = on.stage()
    assert on.ask(frames.Abort(session, 0)) == [frames.Aborted(session)]
    assert isinstance(on.offer()[-1], frames.Accept)
    assert on.ask(frames.Finish(2))[-1] == frames.Finished(2, SHA)


@pytest.mark.parametrize("tells_revert", [True, False])
def test_a_port_that_still_says_on_trial_after_a_revert_is_not_believed(tells_revert: bool) -> None:
    """Else every OFFER is refused, and the gateway waits for a trial that never ends."""
    on = c_bench(tells_revert=tells_revert)
    on.activate(on.stage(), trial_s=1)
    on.device.says_on_trial = True
    on.wait(3)
    info = on.hello()
    assert (info.version, info.image_state, info.tried_sha256) == ("1.0.0", ImageState.REVERTED, SHA)
    boots = on.device.boots
    on.wait(30)
    assert on.device.boots == boots
    assert isinstance(without_busy(on.offer(OTHER))[-1], frames.Accept)


def test_an_image_on_trial_that_the_receiver_did_not_bring_is_believed() -> None:
    on = c_bench()
    on.device.says_on_trial = True
    on.device.power_cut(on.now)
    assert on.hello().image_state is ImageState.ON_TRIAL
    assert on.offer() == [frames.Refuse(1, RcpCode.ON_TRIAL)]


def test_an_image_that_was_begun_with_smaller_blocks_begins_again() -> None:
    """4096 bytes are durable, and an update knows the blocks as 8192: nothing is erased off an edge."""
    on = with_journal("reverted-and-receiving.txt", erase_block=8192)
    assert on.hello().tried_sha256 == SHA
    accept = without_busy(on.offer(OTHER))[-1]
    assert isinstance(accept, frames.Accept)
    assert accept.offset == 0
    assert on.device.flash.unsound == 0


# With RCP_EVENTS, RCP_BLOCK_SIZES and RCP_ERASED 0x00.

OFFER, STARTED, PROGRESS, STAGED, RESTART, CONFIRMED, ERROR = range(7)


def optional(**changes: object) -> CBench:
    return c_bench(dataclasses.replace(PROFILE), library_path=str(OPTIONS), **changes)  # type: ignore[arg-type]  # by name


def test_events_tell_an_update() -> None:
    on = optional()
    assert on.update()
    told = on.device.events
    assert told[:3] == [(OFFER, 9000), (STARTED, 0), (PROGRESS, 4096)]
    assert [told[-1], *told[-4:-1]] == [(CONFIRMED, 0), (PROGRESS, 9000), (STAGED, 9000), (RESTART, 0)]


def test_events_tell_a_refusal_and_a_trial_that_is_over() -> None:
    on = optional()
    on.activate(on.stage(), trial_s=1)
    on.wait(1)
    on.device.bootloader_waits()
    on.wait(3)
    assert (RESTART, 1) in on.device.events
    on.hello()
    on.offer()
    assert on.device.events[-1] == (ERROR, int(RcpCode.ALREADY_TRIED))


def test_power_cuts_with_blocks_of_several_sizes_in_flash_that_erases_to_0() -> None:
    count = optional()
    assert count.update()
    for cut_at in range(1, count.device.flash.operations + 1, 7):
        on = optional(torn_unreadable=True)
        on.device.flash.cut_at = cut_at
        on.one_pass()
        on.wait(1.0)
        assert on.device.running_image in (OLD, IMAGE), cut_at
        assert on.update(), cut_at
        assert on.device.flash.unsound == 0
        assert on.device.most_erases == 1
