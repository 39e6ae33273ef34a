"""The rules that a model of the protocol showed to matter: what each of them asks of the receiver in C."""

import random
import zlib

import pytest
from lab.c_receiver_bench import CBench, c_bench
from lab.receiver_bench import IMAGE, OLD, PROFILE, SHA, error, without_busy

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.codes import RcpCode
from gatewayd.protocol.rcp.framing import encode_stream
from gatewayd.protocol.rcp.tlv_frames import Confirm, Confirmed, Hello
from gatewayd.protocol.session import ImageState

MIB = bytes(1024) * 1024


def accepted(on: CBench, image: bytes = IMAGE, **changes: object) -> frames.Accept:
    answer = on.offer(image, **changes)[-1]
    assert isinstance(answer, frames.Accept), answer
    return answer


# 2: one NAK per pass, at once


def test_one_nak_per_pass() -> None:
    on = c_bench()
    session = on.bring_in(upto=1024)
    nak = frames.Nak(session, 1024, 0, 5120)
    assert on.data(session, 2048) == [nak]
    assert on.data(session, 3072) == []
    assert on.say(b"\0noise\0") == []
    assert on.data(session, 3072) == [nak]  # not above the one before: the gateway has gone back
    assert isinstance(on.data(session, 1024)[0], frames.Ack)
    assert isinstance(on.say(b"\0noise\0")[0], frames.Nak)


# 3: every chunk is acknowledged


def test_every_chunk_is_acknowledged() -> None:
    on = c_bench()
    session = on.bring_in(upto=1024)
    for at in range(1024, 3584, 512):
        assert on.data(session, at, 512) == [frames.Ack(session, at + 512, 0, at + 512 + 4096)]


# 4 and 5: credit is a promise


@pytest.mark.parametrize("erase_ahead", [512, 2048, 65536])
def test_credit_never_passes_the_edge_of_what_is_erased(erase_ahead: int) -> None:
    """Chunks are larger than blocks here, so erasing lags behind; when it has caught up, an ACK says so."""
    on = c_bench(erase_block=512, window=3000, erase_ahead=erase_ahead)
    accept = accepted(on)
    at, credit = accept.offset, accept.credit
    while at < len(IMAGE):
        for ack in on.data(accept.session, at, min(1000, credit - at)):
            assert isinstance(ack, frames.Ack)
            assert ack.credit in (credit, len(IMAGE)) or ack.credit - credit >= 1000
            at, credit = ack.received, ack.credit
        assert credit == min(at + 3000, len(IMAGE))
    assert on.device.flash.unsound == 0  # the bench compares credit and edge after every frame


def test_credit_keeps_within_the_edge_when_frames_wait_in_the_ring() -> None:
    on = c_bench(erase_block=512, window=4096)
    session = accepted(on).session
    chunks = (frames.Data(session, at, IMAGE[at : at + 1024]) for at in range(0, 4096, 1024))
    on.device.queue(b"".join(encode_stream(chunk.to_bytes()) for chunk in chunks))
    acks = on.wait()
    assert len(acks) >= 4
    assert isinstance(acks[-1], frames.Ack)
    assert (acks[-1].received, acks[-1].credit) == (4096, 8192)
    assert on.device.flash.unsound == 0


def test_data_beyond_the_credit_is_malformed() -> None:
    on = c_bench()
    session = on.bring_in(upto=1024)
    assert on.data(session, 1024 + 4096 - 8, 16) == error(session, RcpCode.MALFORMED)
    assert on.ask(frames.Data(session, 2**32 - 8, bytes(16))) == error(session, RcpCode.MALFORMED)  # rule 13
    assert on.update()


def test_a_device_that_is_deaf_while_it_erases_erases_everything_before_accept() -> None:
    on = c_bench(erase_s=0.7, deaf=True)
    image = IMAGE * 7
    said_at, answers = on.now, on.offer(image)
    assert answers == [frames.Busy(1, 3200)]
    while not answers or isinstance(answers[-1], frames.Busy):
        said_at = on.now if answers else said_at
        answers = on.wait(0.05)
        assert on.now - said_at < 3.2, "BUSY ran out"
    assert isinstance(answers[-1], frames.Accept)
    assert on.slot_erases() == 16
    assert on.update(image)
    assert on.slot_erases() == 16


# 6: resume


def test_after_a_power_cut_it_resumes_at_the_block_it_recorded_and_erases_that_again() -> None:
    on = c_bench()
    on.bring_in(upto=6144)
    before = dict(on.device.flash.erases)
    on.device.power_cut(on.now)
    on.hello()
    accept = accepted(on)
    assert (accept.offset, accept.prefix_crc) == (4096, zlib.crc32(IMAGE[:4096]))
    block = (on.device.flash.slot + 4096) // 4096
    assert on.device.flash.erases[block] == before[block] + 1
    assert on.device.flash.erases[block - 1] == before[block - 1]
    assert on.update()
    assert on.image_bytes_sent <= len(IMAGE) + 4096


def test_in_the_same_boot_it_resumes_at_what_is_written() -> None:
    on = c_bench()
    session = on.bring_in(upto=1024)
    on.data(session, 1024, 13)  # one write unit and a part of one
    accept = accepted(on)
    assert (accept.offset, accept.prefix_crc) == (1032, zlib.crc32(IMAGE[:1032]))
    assert on.update()


def test_from_zero_and_another_size_begin_again() -> None:
    on = c_bench()
    on.bring_in(upto=5000)
    assert accepted(on, size=len(IMAGE) - 8).offset == 0
    on.bring_in(upto=5000)
    assert accepted(on, from_zero=True).offset == 0
    assert on.update()
    assert on.device.flash.unsound == 0


def whole_after_a_restart() -> CBench:
    """A device that has a whole image in flash, of which nothing has been hashed since it started."""
    on = c_bench()
    on.bring_in()
    on.device.power_cut(on.now)
    on.hello()
    return on


def test_a_slot_that_cannot_be_read_back_is_given_up() -> None:
    on = whole_after_a_restart()
    on.device.flash.make_unreadable(on.device.flash.slot)
    accept, failed = without_busy(on.offer())
    assert isinstance(accept, frames.Accept)
    assert failed == error(accept.session, RcpCode.FLASH_READ)[0]  # it reads before it is asked to
    assert accepted(on).offset == 0
    assert on.update()


def test_a_slot_that_went_bad_is_never_staged() -> None:
    on = whole_after_a_restart()
    on.device.flash.cells[on.device.flash.slot + 5] ^= 1
    session = accepted(on).session
    assert without_busy(on.ask(frames.Finish(session))) == error(session, RcpCode.DIGEST_MISMATCH)
    assert accepted(on).offset == 0
    assert on.update()


def test_the_prefix_crc_is_that_of_what_lies_in_flash() -> None:
    """A write that silently changes a bit shows at the next OFFER, not after the whole image."""
    on = c_bench()
    on.device.flash.flip_at(on.device.flash.operations + 40)
    session = on.bring_in(upto=4096)
    on.ask(frames.Abort(session, 0))
    accept = accepted(on)
    found = on.device.flash.read(on.device.flash.slot, accept.offset)
    assert found != IMAGE[: accept.offset]
    assert accept.prefix_crc == zlib.crc32(found)


# 7: the journal


def test_the_journal_costs_two_erases_for_a_mib() -> None:
    image = random.Random(3).randbytes(1024) * 1024
    on = c_bench(slot_size=2 * len(image))
    on.bring_in(image)
    assert on.journal_erases() == 2
    assert on.slot_erases() == 256
    on.device.power_cut(on.now)
    on.hello()
    assert accepted(on, image).offset == len(image)


def test_small_blocks_cost_no_more_journal() -> None:
    """A mark for every 4 KiB, although a block is 512 bytes: the whole image fits into one area."""
    image = IMAGE * 14
    on = c_bench(slot_size=2 * 65536, erase_block=512)
    on.bring_in(image)
    assert on.journal_erases() == 2  # an area is two blocks
    on.device.power_cut(on.now)
    on.hello()
    assert accepted(on, image).offset == len(image)


def test_remnants_of_an_earlier_use_are_no_records() -> None:
    on = c_bench()
    flash, second_mark = on.device.flash, slice(128 + 16, 128 + 32)
    on.bring_in(upto=8192)
    remnant = flash.cells[second_mark]
    on.bring_in(IMAGE[::-1], upto=1024)
    on.bring_in(OLD + IMAGE, upto=5000)
    assert flash.cells[second_mark] == [0xFF] * 16
    for at, byte in enumerate(remnant, second_mark.start):
        flash.cells[at] = byte
    on.device.power_cut(on.now)
    on.hello()
    assert accepted(on, OLD + IMAGE).offset == 4096


def test_journal_areas_take_turns() -> None:
    on = c_bench()
    for number in range(6):
        on.bring_in(IMAGE[: 100 + number])
        erases = on.device.flash.erases
        assert abs(erases.get(0, 0) - erases.get(1, 0)) <= 1


def test_blank_flash_is_an_empty_journal_and_so_is_noise() -> None:
    for seed in range(50):
        on = c_bench()
        noise = random.Random(seed).randbytes(2 * PROFILE.journal_area)
        for at, byte in enumerate(noise):
            on.device.flash.cells[at] = byte
        on.device.power_cut(on.now)
        assert on.hello().tried_sha256 is None
        assert accepted(on).offset == 0
        assert on.update()


# 9 and 10: activation, trial, confirmation


def test_an_update_from_hello_to_confirmed() -> None:
    on = c_bench(running=None)
    assert on.hello().running_sha256 is None
    before = on.hello().boot_id
    assert on.activate(on.stage()) == [frames.Activated(1)]
    on.wait(1)
    info = on.hello()
    assert info.boot_id != before
    assert (info.version, info.running_sha256, info.image_state) == ("1.0.1", SHA, ImageState.ON_TRIAL)
    assert on.offer(OLD) == [frames.Refuse(2, RcpCode.ON_TRIAL)]
    assert on.ask(Confirm(3, sha256=SHA)) == [Confirmed(3)]
    assert on.ask(Confirm(4, version="1.0.1")) == [Confirmed(4)]
    assert on.hello().image_state is ImageState.CONFIRMED
    assert on.offer() == [frames.HaveIt(3, SHA)]
    on.wait(10_000)
    assert on.device.running_image == IMAGE


@pytest.mark.parametrize("trial_s", [1, 30, 600])
def test_a_trial_that_nobody_confirms_ends_with_the_old_image_and_is_not_repeated(trial_s: int) -> None:
    on = c_bench()
    on.activate(on.stage(), trial_s=trial_s)
    on.wait(trial_s)
    assert on.hello().version == "1.0.1"
    on.wait(1)
    info = on.hello()
    assert (info.version, info.image_state) == ("1.0.0", ImageState.REVERTED)
    assert (info.tried_sha256, info.tried_count) == (SHA, 1)
    assert on.offer() == [frames.Refuse(2, RcpCode.ALREADY_TRIED)]


def test_the_receiver_ends_the_trial_itself() -> None:
    """As with MCUboot, where nothing else counts the time."""
    on = c_bench()
    on.activate(on.stage(), trial_s=30)
    on.wait(1)
    on.device.bootloader_waits()
    on.wait(28)
    assert on.device.starts == 1
    assert on.device.state == "IDLE"
    on.wait(2)
    assert on.device.boots == 3


def test_activate_needs_this_boot_and_this_image_and_may_be_repeated() -> None:
    on = c_bench()
    session = on.stage()
    boot_id = on.hello().boot_id
    assert on.ask(frames.Activate(session, SHA, boot_id ^ 1, 1)) == error(session, RcpCode.OTHER_BOOT)
    assert on.ask(frames.Activate(session, bytes(32), boot_id, 1)) == error(session, RcpCode.NOT_STAGED)
    assert on.ask(frames.Activate(session, SHA, boot_id, 1)) == [frames.Activated(session)]
    assert on.ask(frames.Activate(session, SHA, boot_id, 1)) == [frames.Activated(session)]
    assert on.hello().tried_count == 1


def test_activated_leaves_the_line_before_the_restart() -> None:
    on = c_bench(base_baud=300)
    session, boot_id = on.stage(), on.hello().boot_id
    on.wait(60)  # the line is quiet
    on.ask(frames.Activate(session, SHA, boot_id, 600))
    on.wait(0.2)  # 8 bytes take 267 ms
    assert on.device.state == "RESTART"
    on.wait(0.3)
    assert on.device.state == "OFF"


def test_one_second_try_and_no_third() -> None:
    on = c_bench()
    on.cut_at_flag()
    on.hello()
    assert isinstance(on.offer()[-1], frames.Refuse)
    assert accepted(on, second_try=True).offset == len(IMAGE)
    session = on.stage_again()
    on.activate(session, trial_s=1)
    on.wait(3)
    assert on.hello().tried_count == 2
    assert isinstance(on.offer(second_try=True)[-1], frames.Refuse)


def test_confirm_of_another_image() -> None:
    on = c_bench()
    assert on.ask(Confirm(4, version="1.0.1")) == error(0, RcpCode.NOT_RUNNING)
    assert on.ask(Confirm(4, version="1.0.00")) == error(0, RcpCode.NOT_RUNNING)
    assert on.ask(Confirm(4, sha256=SHA)) == error(0, RcpCode.NOT_RUNNING)


# 11: identity, repeated offers, another gateway


def test_a_repeated_offer_gets_the_same_accept() -> None:
    on = c_bench()
    session = on.bring_in(upto=5120)
    on.ask(frames.Abort(0, 0))
    first = without_busy(on.offer(session=session, from_zero=True))
    assert without_busy(on.offer(session=session, from_zero=True)) == first
    on.data(session, 0)
    again = accepted(on, session=session, from_zero=True)
    assert again.offset == 1024  # and not from zero once more


def test_another_gateway_has_to_wait_while_a_session_is_in_use() -> None:
    on = c_bench()
    session = on.bring_in(upto=1024)
    on.ask(Hello(9, "other"))
    assert on.offer() == [frames.NotNow(2, 10, 1)]
    on.wait(9)
    on.ask(frames.Data(session, 0))
    on.wait(9)
    assert on.offer() == [frames.NotNow(3, 10, 1)]
    on.wait(2)
    accepted(on)


def test_the_firmware_may_refuse_an_offer() -> None:
    on = c_bench()
    on.device.refuse_with(0x030B)
    assert on.offer() == [frames.Refuse(1, RcpCode.REFUSED)]
    on.device.refuse_with(900 << 16 | 2)
    assert on.offer() == [frames.NotNow(2, 900, 2)]
    on.device.refuse_with(0)
    accepted(on)


# 13: lengths


@pytest.mark.parametrize("size", [0, 65537, 2**32 - 1])
def test_sizes_that_do_not_fit(size: int) -> None:
    assert c_bench().offer(size=size) == [frames.Refuse(1, RcpCode.TOO_LARGE)]


@pytest.mark.parametrize("erase_block", [512, 4096, 65536])
@pytest.mark.parametrize("write_unit", [1, 4, 32, 256])
@pytest.mark.parametrize("max_frame", [138, 1034])
def test_flash_of_another_geometry(erase_block: int, write_unit: int, max_frame: int) -> None:
    on = c_bench(
        erase_block=erase_block, write_unit=write_unit, max_frame=max_frame, slot_size=131072, window=8192
    )
    size = (max_frame - 10) // write_unit * write_unit or max_frame - 10
    session = accepted(on).session
    for at in range(0, len(IMAGE), size):
        assert isinstance(on.data(session, at, size)[0], frames.Ack)
    assert on.update()
    assert on.device.flash.unsound == 0
