"""What docs/protocol.md asks of a device, beyond the golden conversations."""

import pytest
from lab.receiver_bench import IMAGE, PROFILE, SHA, Bench, error, python_bench

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.codes import RcpCode
from gatewayd.protocol.rcp.framing import encode_stream
from gatewayd.protocol.rcp.tlv_frames import Confirm, Confirmed, Hello, Offer
from gatewayd.protocol.session import ImageState
from gatewayd.simulator.flash import Flash
from gatewayd.simulator.profile import DeviceProfile
from gatewayd.simulator.receiver import Receiver

Frame = frames.Frame


def bench(**changes: object) -> Bench[Receiver]:
    return python_bench(running=None, **changes)  # type: ignore[arg-type]  # fields by name


# A whole life


def test_an_update_from_hello_to_confirmed() -> None:
    on = bench()
    assert on.hello().running_sha256 is None
    before = on.hello().boot_id
    on.activate(on.stage())
    on.wait(1)
    info = on.hello()
    assert info.boot_id != before
    assert (info.version, info.running_sha256, info.image_state) == ("1.0.1", SHA, ImageState.ON_TRIAL)
    assert on.ask(Confirm(3, sha256=SHA)) == [Confirmed(3)]
    assert on.hello().image_state is ImageState.CONFIRMED
    on.wait(10_000)
    assert on.device.running_image == IMAGE


def test_a_trial_that_nobody_confirms_ends_with_the_old_image_and_is_not_repeated() -> None:
    on = bench()
    on.activate(on.stage(), trial_s=30)
    on.wait(29)
    assert on.hello().version == "1.0.1"
    on.wait(3)
    info = on.hello()
    assert (info.version, info.image_state) == ("1.0.0", ImageState.REVERTED)
    assert (info.tried_sha256, info.tried_count) == (SHA, 1)
    assert on.offer()[0] == frames.Refuse(1 + 1, RcpCode.ALREADY_TRIED)


def test_an_image_that_is_broken_by_design_is_silent_and_reverts() -> None:
    on = bench(break_after_activate=True)
    on.activate(on.stage(), trial_s=5)
    on.wait(1)
    assert on.ask(Hello(1, "bench")) == []
    on.wait(6)
    assert on.hello().image_state is ImageState.REVERTED


def test_the_trial_cap_shortens_a_trial() -> None:
    on = bench(trial_cap_s=2)
    on.activate(on.stage(), trial_s=600)
    on.wait(4)
    assert on.hello().image_state is ImageState.REVERTED


def test_nothing_is_answered_between_a_power_cut_and_the_boot() -> None:
    on = bench()
    before = on.hello().boot_id
    on.device.power_cut(on.now)
    on.wait(PROFILE.boot_s * 0.9)
    assert on.ask(Hello(1, "bench")) == []
    on.wait(PROFILE.boot_s * 0.2)
    assert on.hello().boot_id != before


# Resume (rule 6)


def test_after_a_power_cut_it_resumes_at_the_block_it_recorded() -> None:
    on = bench()
    on.bring_in(upto=6144)
    on.device.power_cut(on.now)
    on.hello()
    accept = on.offer()[-1]
    assert isinstance(accept, frames.Accept)
    assert accept.offset == 4096
    assert accept.prefix_crc == __import__("zlib").crc32(IMAGE[:4096])
    assert on.update()
    assert on.image_bytes_sent <= len(IMAGE) + 4096 + PROFILE.erase_block


def test_in_the_same_boot_it_resumes_at_what_is_written() -> None:
    on = bench()
    session = on.bring_in(upto=1024)
    on.data(session, 1024, 13)  # one unit and a part of one
    accept = on.offer()[-1]
    assert isinstance(accept, frames.Accept)
    assert accept.offset == 1032


def test_another_size_of_the_same_hash_begins_from_zero() -> None:
    on = bench()
    on.bring_in(upto=4096)
    accept = on.offer(size=len(IMAGE) - 8)[-1]
    assert isinstance(accept, frames.Accept)
    assert accept.offset == 0


def test_a_prefix_that_cannot_be_read_begins_from_zero() -> None:
    on = bench()
    on.bring_in(upto=5120)
    slot = 2 * PROFILE.journal_area
    on.device.flash.unreadable.add(slot + 4096 + 8)
    accept = on.offer()[-1]
    assert isinstance(accept, frames.Accept)
    assert (accept.offset, accept.prefix_crc) == (0, 0)
    assert on.update()


def test_a_slot_that_cannot_be_read_back_is_given_up() -> None:
    on = bench()
    session = on.bring_in()
    on.device.flash.unreadable.add(2 * PROFILE.journal_area)
    answers = on.ask(frames.Finish(session)) + on.wait()
    assert answers[-1] == frames.Error(session, RcpCode.FLASH_READ)
    assert on.update()


def test_a_slot_that_went_bad_is_never_staged() -> None:
    on = bench()
    session = on.bring_in()
    on.device.flash._cells[2 * PROFILE.journal_area : 2 * PROFILE.journal_area + 1] = b"\0"  # noqa: SLF001
    answers = on.ask(frames.Finish(session)) + on.wait()
    assert answers[-1] == frames.Error(session, RcpCode.DIGEST_MISMATCH)
    accept = on.offer()[-1]
    assert isinstance(accept, frames.Accept)
    assert accept.offset == 0
    assert on.update()


# Credit (rules 4 and 5)


def test_credit_never_passes_the_edge_of_what_is_erased() -> None:
    on = bench(erase_block=2048, window=3000)
    accept = on.offer()[-1]
    assert isinstance(accept, frames.Accept)
    credit, erased, at = accept.credit, on.device.flash.erases, accept.offset
    first_slot_block = 2 * on.device.profile.journal_area // 2048
    while at < len(IMAGE):
        edge = sum(1 for block in erased if block >= first_slot_block) * 2048
        assert at <= credit <= min(edge, len(IMAGE), at + 3000)
        ack = on.data(accept.session, at, 1000)[-1]
        assert isinstance(ack, frames.Ack)
        assert ack.credit >= credit
        at, credit = ack.received, ack.credit


def test_data_beyond_the_credit_is_malformed() -> None:
    on = bench()
    session = on.bring_in(upto=1024)
    assert on.data(session, 1024 + 4096 - 8, 16) == error(session, RcpCode.MALFORMED)


def test_erasing_that_takes_time_happens_under_busy_before_accept() -> None:
    on = bench(erase_s=0.7)
    first = on.offer()
    assert first == [frames.Busy(1, 1000)]
    assert on.ask(frames.Data(1, 0)) == [frames.Busy(1, 1000)]
    assert on.ask(frames.Finish(1)) == [frames.Busy(1, 1000)]
    assert on.activate(1) == error(1, RcpCode.NOT_STAGED)
    answers = on.wait(10)
    assert isinstance(answers[-1], frames.Accept)
    assert all(isinstance(answer, frames.Busy) for answer in answers[:-1])
    assert sum(n for block, n in on.device.flash.erases.items() if block >= 2) == 3
    assert on.update()


def test_busy_is_renewed_before_it_runs_out() -> None:
    on = bench(erase_s=0.3, slot_size=4 * 65536)
    on.offer(bytes(40 * 4096))
    said_at, answers = on.now, on.wait(0.05)
    while not (answers and isinstance(answers[-1], frames.Accept)):
        assert on.now - said_at < 1.0
        said_at = on.now if answers else said_at
        answers = on.wait(0.05)


# Gaps (rule 2)


def test_one_nak_per_pass() -> None:
    on = bench()
    session = on.bring_in(upto=1024)
    assert on.data(session, 2048) == [frames.Nak(session, 1024, 0, 5120)]
    assert on.data(session, 3072) == []
    assert on.say(b"\0noise\0") == []
    assert on.data(session, 3072) == [
        frames.Nak(session, 1024, 0, 5120)
    ]  # not above the one before: gone back
    assert isinstance(on.data(session, 1024)[0], frames.Ack)
    assert isinstance(on.say(b"\0noise\0")[0], frames.Nak)


# Activation (rules 8 to 10)


def test_staged_does_not_survive_a_restart_but_full_does() -> None:
    on = bench()
    on.stage()
    on.device.power_cut(on.now)
    on.hello()
    assert on.activate(1) == error(1, RcpCode.NO_SESSION)
    accept = on.offer()[-1]
    assert isinstance(accept, frames.Accept)
    assert accept.offset == len(IMAGE)
    assert on.activate(accept.session) == error(accept.session, RcpCode.NOT_STAGED)


def test_activate_needs_this_boot_and_this_image() -> None:
    on = bench()
    session = on.stage()
    info = on.hello()
    assert on.ask(frames.Activate(session, SHA, info.boot_id ^ 1, 1)) == error(session, RcpCode.OTHER_BOOT)
    assert on.ask(frames.Activate(session, bytes(32), info.boot_id, 1)) == error(session, RcpCode.NOT_STAGED)
    assert on.ask(frames.Activate(session, SHA, info.boot_id, 1)) == [frames.Activated(session)]
    assert on.ask(frames.Activate(session, SHA, info.boot_id, 1)) == [frames.Activated(session)]
    assert on.hello().tried_count == 1


def test_activated_leaves_the_line_before_the_restart() -> None:
    on = bench()
    assert on.activate(on.stage()) == [frames.Activated(1)]
    restart_at = on.device.next_deadline()
    assert restart_at is not None
    assert restart_at >= on.now + len(encode_stream(frames.Activated(1).to_bytes())) * 10 / 115200


def test_one_second_try_and_no_third() -> None:
    on = bench()
    journal = on.device._conversation._journal  # type: ignore[union-attr]  # noqa: SLF001 - a cut after the record
    journal.tried(SHA, 1)
    assert on.offer() == [frames.Refuse(1, RcpCode.ALREADY_TRIED)]
    accept = on.offer(second_try=True)[-1]
    assert isinstance(accept, frames.Accept)
    journal.tried(SHA, 2)
    assert on.offer(second_try=True) == [frames.Refuse(3, RcpCode.ALREADY_TRIED)]


def test_confirm_by_version_and_of_another_image() -> None:
    on = bench()
    assert on.ask(Confirm(4, version="1.0.0")) == [Confirmed(4)]
    assert on.ask(Confirm(4, version="1.0.1")) == error(0, RcpCode.NOT_RUNNING)
    assert on.ask(Confirm(4, sha256=SHA)) == error(0, RcpCode.NOT_RUNNING)


# Other gateways, other speeds (rules 11 and 12)


def test_another_gateway_has_to_wait_while_a_session_is_in_use() -> None:
    on = bench()
    on.hello()
    session = on.bring_in(upto=1024)
    on.ask(Hello(9, "other"))
    assert on.offer() == [frames.NotNow(2, 10, 1)]
    on.wait(9)
    on.ask(frames.Data(session, 0))
    on.wait(9)
    assert on.offer() == [frames.NotNow(3, 10, 1)]
    on.wait(2)
    assert isinstance(on.offer()[-1], frames.Accept)


def test_a_session_that_no_hello_preceded_belongs_to_nobody() -> None:
    on = bench()
    assert isinstance(on.offer()[-1], frames.Accept)  # said again after a power cut, before any HELLO
    on.hello()
    assert isinstance(on.offer()[-1], frames.Accept)


def test_a_refused_offer_does_not_keep_the_session_in_use() -> None:
    on = bench()
    on.hello()
    session = on.bring_in(upto=1024)
    on.ask(Hello(9, "other"))
    on.wait(9)
    offer = Offer(session, SHA, len(IMAGE), "1.0.1")
    assert on.ask(offer) == [frames.NotNow(session, 10, 1)]
    on.wait(2)
    assert isinstance(on.ask(offer)[-1], frames.Accept)


def set_baud(on: Bench[Receiver], baud: int = 921600) -> list[Frame]:
    return on.ask(frames.SetBaud(0, baud))


def test_the_speed_changes_when_baud_ok_has_left() -> None:
    on = bench()
    assert set_baud(on) == [frames.BaudOk(0, 921600, 921600)]
    assert on.device.baud == 115200
    on.wait(0.0001)
    assert on.device.baud == 115200
    on.wait(0.01)
    assert on.device.baud == 921600


def test_without_a_first_frame_the_speed_falls_back_after_a_second_later_after_three() -> None:
    on = bench()
    set_baud(on)
    on.wait(0.9)
    on.hello()
    on.wait(2.9)
    assert on.device.baud == 921600
    on.wait(0.2)
    assert on.device.baud == 115200
    set_baud(on)
    on.wait(1.1)
    assert on.device.baud == 115200


def test_noise_does_not_hold_the_speed() -> None:
    on = bench()
    set_baud(on)
    for _ in range(6):
        on.wait(0.2)
        on.say(b"\0noise\0")
    assert on.device.baud == 115200


def test_time_under_busy_does_not_count_against_the_speed() -> None:
    on = bench(erase_s=2.0)
    set_baud(on)
    on.wait(0.5)
    on.hello()
    on.offer()
    on.wait(5.9)
    assert on.device.baud == 921600


def test_a_restart_leads_to_the_base_speed() -> None:
    on = bench()
    set_baud(on)
    on.wait(0.5)
    on.device.power_cut(on.now)
    assert on.device.baud == 115200


@pytest.mark.parametrize("baud", [0, 2**32 - 1])
def test_a_speed_it_cannot_make(baud: int) -> None:
    assert set_baud(bench(), baud) == error(0, RcpCode.BAUD)


def test_a_device_with_one_speed() -> None:
    assert set_baud(bench(can_set_baud=False)) == error(0, RcpCode.BAUD)


def test_a_flash_of_another_geometry_works_as_well() -> None:
    for erase_block, write_unit in ((512, 1), (2048, 32), (65536, 4)):
        profile = DeviceProfile(
            app_id="pump",
            version="1.0.0",
            slot_size=131072,
            erase_block=erase_block,
            write_unit=write_unit,
        )
        flash = Flash(profile.flash_size, erase_block=erase_block, write_unit=write_unit)
        assert Bench(Receiver(profile, flash=flash)).update()
