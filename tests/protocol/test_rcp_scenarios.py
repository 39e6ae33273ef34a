"""The same stories over perfect, one-byte, lossy and delayed lines, with every receiver there is."""

import dataclasses
from collections.abc import Callable
from functools import partial

import pytest
from rcp_lab import (
    DEVICES,
    NEW_VERSION,
    OLD,
    PROFILE,
    RETRY_S,
    DeviceFactory,
    Faults,
    Lab,
    make_image,
    python_device,
    rcp_gateway,
)

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.tagged import Hello, Offer
from gatewayd.protocol.session import (
    AlreadyRunning,
    Confirmed,
    Console,
    Deferred,
    Failed,
    Identified,
    ImageState,
    LineSpeed,
    Outcome,
    Staged,
    TransferStarted,
)

IMAGE = make_image(20_001)  # five erase blocks, no multiple of a write unit
LINES = {
    "perfect": (0.0, Faults()),
    "one byte": (0.001, Faults(one_byte=True)),
    "lossy": (0.005, Faults(flip=1e-4, drop=1e-4, lose=0.02)),
    "delayed": (0.3, Faults()),
}
MakeLab = Callable[..., Lab]


@pytest.fixture(params=DEVICES)
def make_device(request: pytest.FixtureRequest) -> DeviceFactory:
    return DEVICES[request.param]


@pytest.fixture
def make_lab(make_device: DeviceFactory) -> MakeLab:
    """Make a lab with a good line; keywords of DeviceProfile change the device."""

    def make(*, lab: dict[str, object] | None = None, **changes: object) -> Lab:
        profile = dataclasses.replace(PROFILE, **changes)  # type: ignore[arg-type]  # fields by name
        return Lab(make_device(profile), **{"latency_s": 0.002, **(lab or {})})  # type: ignore[arg-type]  # as above

    return make


@pytest.fixture(params=LINES)
def lab(request: pytest.FixtureRequest, make_device: DeviceFactory) -> Lab:
    latency_s, faults = LINES[request.param]
    return Lab(make_device(PROFILE), latency_s=latency_s, faults=faults, seed=3)


def assert_updated(lab: Lab, outcome: Outcome) -> None:
    assert isinstance(outcome, Identified), outcome
    assert outcome.info.image_state is ImageState.CONFIRMED
    assert outcome.info.running_sha256 == IMAGE.sha256
    assert (lab.device.running_version, lab.device.running_image) == (NEW_VERSION, IMAGE.content)


def failed_code(outcome: Outcome) -> str:
    assert isinstance(outcome, Failed), outcome
    return outcome.error.code


def count(lab: Lab, kind: type[frames.Frame]) -> int:
    return sum(isinstance(frame, kind) for frame in lab.seen)


def payload_sent(lab: Lab) -> int:
    return sum(len(frame.payload) for frame in lab.seen if isinstance(frame, frames.Data))


def starts(lab: Lab) -> list[int]:
    return [event.offset for _, event in lab.events if isinstance(event, TransferStarted)]


# Over every line


def test_an_update_from_hello_to_confirmed(lab: Lab) -> None:
    assert_updated(lab, lab.update(IMAGE))


def test_an_image_of_one_byte(lab: Lab) -> None:
    image = make_image(1)
    assert isinstance(lab.update(image), Identified)
    assert lab.device.running_image == image.content


def test_a_gateway_killed_in_the_transfer_resumes(lab: Lab) -> None:
    lab.identify()
    lab.session.transfer(IMAGE, lab.now)
    lab.run_until_durable(8192)
    lab.restart_gateway()
    assert_updated(lab, lab.update(IMAGE))
    assert starts(lab)[-1] >= 8192


def test_a_power_cut_in_the_transfer_resumes(lab: Lab) -> None:
    lab.identify()
    lab.session.transfer(IMAGE, lab.now)
    lab.run_until_durable(8192)
    lab.device.power_cut(lab.now)
    outcome = lab.run_until_outcome(Staged)
    assert isinstance(outcome, Staged)
    assert starts(lab)[-1] >= 8192
    lab.restart_gateway()
    assert_updated(lab, lab.update(IMAGE))


def test_a_device_that_was_erasing_and_hashing_slowly(make_lab: MakeLab) -> None:
    lab = make_lab(erase_s=0.7)
    assert_updated(lab, lab.update(IMAGE))
    assert count(lab, frames.Busy) > 1
    assert count(lab, Offer) == 1  # BUSY was believed


def test_who_has_the_image_already_is_sent_nothing(lab: Lab) -> None:
    assert_updated(lab, lab.update(IMAGE))
    sent = payload_sent(lab)
    lab.restart_gateway()
    lab.identify()
    assert lab.transfer(IMAGE) == AlreadyRunning()
    assert lab.confirm(IMAGE) == Confirmed()
    assert payload_sent(lab) == sent


# What comes again after an interruption


def test_after_a_kill_at_most_a_window_and_an_erase_block_come_again(make_lab: MakeLab) -> None:
    for data in range(1, 21):
        lab = make_lab()
        lab.identify()
        lab.session.transfer(IMAGE, lab.now)
        lab.run_until_sent(frames.Data, data)
        lab.restart_gateway()
        assert_updated(lab, lab.update(IMAGE))
        assert payload_sent(lab) <= len(IMAGE.content) + PROFILE.window + PROFILE.erase_block, data


def test_after_a_power_cut_at_most_a_window_and_an_erase_block_come_again(make_lab: MakeLab) -> None:
    for data in range(1, 21):
        lab = make_lab()
        lab.identify()
        lab.session.transfer(IMAGE, lab.now)
        lab.run_until_sent(frames.Data, data)
        lab.device.power_cut(lab.now)
        assert isinstance(lab.run_until_outcome(Staged), Staged)
        assert payload_sent(lab) <= len(IMAGE.content) + PROFILE.window + PROFILE.erase_block, data


def test_a_power_cut_at_every_flash_operation(make_lab: MakeLab) -> None:
    whole = partial(make_lab, write_unit=128, erase_block=2048)
    first = whole()
    first.update(IMAGE)
    operations = first.device.flash.operations
    assert operations > 150
    for cut_at in range(1, operations + 1, 2):
        lab = whole()
        lab.device.flash.cut_at = cut_at
        assert_updated(lab, lab.update(IMAGE, attempts=2))


# Who else may speak


def test_text_of_the_console_between_the_frames_changes_nothing(make_lab: MakeLab) -> None:
    lab = make_lab()
    for number in range(5):
        text = f"I ({number}) adc: 3.30 V\r\n".encode()
        lab.at(0.2 * number, lambda text=text: lab.session.receive_data(b"\0" + text + b"\0", lab.now))  # type: ignore[misc]  # bound now
    assert_updated(lab, lab.update(IMAGE))
    said = [event.text for _, event in lab.events if isinstance(event, Console)]
    assert said[:2] == ["I (0) adc: 3.30 V", "I (1) adc: 3.30 V"]


def test_another_gateway_waits_until_the_session_is_out_of_use(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.identify()
    lab.session.transfer(IMAGE, lab.now)
    lab.run_until_sent(frames.Data, 5)
    lab.restart_gateway()
    lab.session._gateway_id = "other"  # type: ignore[attr-defined]  # noqa: SLF001 - RcpGateway's
    lab.identify()
    deferred = lab.transfer(IMAGE)
    assert isinstance(deferred, Deferred)
    assert (deferred.seconds, deferred.reason) == (10, 1)
    lab.pass_time(deferred.seconds)
    assert_updated(lab, lab.update(IMAGE))


def test_a_line_that_leads_back_to_the_gateway_has_nobody_on_it(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.to_device = lab.to_gateway
    assert failed_code(lab.identify()) == "no_answer"


def test_a_dead_device_fails_when_patience_ends_and_not_before(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.losing = lambda _frame: True
    assert failed_code(lab.identify(patience_s=5.0)) == "no_answer"
    assert lab.now == pytest.approx(5.0, abs=0.3)
    assert 15 <= count(lab, Hello) <= 21


def test_a_cable_pulled_for_good_in_the_transfer_ends_it(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.identify()
    lab.session.transfer(IMAGE, lab.now)
    lab.run_until_sent(frames.Data, 6)
    lab.losing = lambda _frame: True
    assert failed_code(lab.run_until_outcome(Staged)) in {"no_answer", "stalled"}
    assert lab.now < 60


def test_a_cable_pulled_for_seconds_does_not(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.identify()
    lab.session.transfer(IMAGE, lab.now)
    lab.run_until_sent(frames.Data, 6)
    lab.losing = lambda _frame: True
    lab.at(4.0, lambda: setattr(lab, "losing", lambda _frame: False))
    assert isinstance(lab.run_until_outcome(Staged), Staged)
    assert payload_sent(lab) <= len(IMAGE.content) + PROFILE.window


# Refusals


def test_an_image_that_does_not_fit_is_refused(make_lab: MakeLab) -> None:
    lab = make_lab(slot_size=16384)
    assert failed_code(lab.update(IMAGE)) == "too_large"
    assert payload_sent(lab) == 0


def test_an_image_that_does_not_hold_is_given_up_and_never_activated_again(make_lab: MakeLab) -> None:
    lab = make_lab(trial_cap_s=30)
    lab.losing = lambda frame: isinstance(frame, frames.Confirm)
    outcome = lab.update(IMAGE, attempts=20)
    assert failed_code(outcome) == "reverted"
    assert lab.device.running_image == OLD
    lab.losing = lambda _frame: False
    activations = count(lab, frames.Activate)
    assert failed_code(lab.update(IMAGE, attempts=3)) == "reverted"
    lab.restart_gateway()
    lab.identify()
    assert failed_code(lab.transfer(IMAGE)) == "already_tried"
    assert count(lab, frames.Activate) == activations == 1


# Activation, and what may get lost in it


@pytest.mark.parametrize("kind", [frames.Activated, frames.Finished, frames.Accept, frames.Finish, Offer])
def test_a_lost_answer_or_request_is_asked_for_again(make_lab: MakeLab, kind: type[frames.Frame]) -> None:
    lab = make_lab()
    lab.losing = lambda frame: isinstance(frame, kind) and count(lab, kind) == 1
    assert_updated(lab, lab.update(IMAGE))
    assert count(lab, kind) == 2 or kind is frames.Activated


def test_an_activate_that_was_lost_with_a_power_cut_is_not_taken_for_a_trial(make_lab: MakeLab) -> None:
    lab = make_lab()

    def power_fails(frame: frames.Frame) -> bool:
        first = isinstance(frame, frames.Activate) and count(lab, frames.Activate) == 1
        if first:
            lab.device.power_cut(lab.now)
        return first

    lab.losing = power_fails
    assert_updated(lab, lab.update(IMAGE, attempts=3))
    assert starts(lab) == [0, len(IMAGE.content)]  # offered again, nothing sent again
    assert not any(isinstance(frame, Offer) and frame.second_try for frame in lab.seen)


def test_a_power_cut_between_the_record_and_the_boot_flag_gets_one_second_try(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.identify()
    lab.transfer(IMAGE)
    whole = make_lab()
    whole.identify()
    whole.transfer(IMAGE)
    before = whole.device.flash.operations
    whole.activate()
    last = whole.device.flash.operations
    assert last > before
    lab.restart_gateway()
    lab.device.flash.cut_at = last  # the boot flag: the last thing done
    assert_updated(lab, lab.update(IMAGE, attempts=2))
    assert [frame.second_try for frame in lab.seen if isinstance(frame, Offer)][-1]


def test_staged_does_not_survive_a_restart_and_is_asked_for_again(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.identify()
    assert isinstance(lab.transfer(IMAGE), Staged)
    lab.device.power_cut(lab.now)
    lab.pass_time(1.0)
    sent = payload_sent(lab)
    assert lab.activate().acknowledged is False  # type: ignore[union-attr]  # Activated, or the test fails
    assert_updated(lab, lab.update(IMAGE))
    assert payload_sent(lab) == sent


# Speed


def fast(make_lab: MakeLab, **changes: object) -> Lab:
    make_session = partial(rcp_gateway, transfer_baud=921600)
    return make_lab(lab={"make_session": make_session}, **changes)


def speeds(lab: Lab) -> list[int]:
    return [event.baud for _, event in lab.events if isinstance(event, LineSpeed)]


def test_a_transfer_at_a_raised_speed_ends_at_the_base_speed(make_lab: MakeLab) -> None:
    lab = fast(make_lab)
    slow = make_lab()
    assert_updated(lab, lab.update(IMAGE))
    slow.update(IMAGE)
    assert speeds(lab) == [921600, 115200]
    assert (lab.baud, lab.device.baud) == (115200, 115200)
    assert lab.now < slow.now - 1.0


def test_a_device_that_cannot_change_the_speed_is_not_asked(make_lab: MakeLab) -> None:
    lab = fast(make_lab, can_set_baud=False)
    assert_updated(lab, lab.update(IMAGE))
    assert count(lab, frames.SetBaud) == 0


def test_a_power_cut_at_the_raised_speed(make_lab: MakeLab) -> None:
    lab = fast(make_lab)
    lab.identify()
    lab.session.transfer(IMAGE, lab.now)
    lab.run_until_sent(frames.Data, 8)
    assert lab.baud == 921600
    lab.device.power_cut(lab.now)
    assert isinstance(lab.run_until_outcome(Staged), Staged)
    assert lab.now < 15


def test_a_gateway_killed_at_the_raised_speed(make_lab: MakeLab) -> None:
    lab = fast(make_lab)
    lab.identify()
    lab.session.transfer(IMAGE, lab.now)
    lab.run_until_sent(frames.Data, 8)
    lab.restart_gateway()  # at the base speed, and the device is not: for 3 s
    assert_updated(lab, lab.update(IMAGE))


def test_a_cable_too_bad_for_the_raised_speed_is_used_at_the_base_speed(make_lab: MakeLab) -> None:
    lab = fast(make_lab)
    lab.losing = lambda _frame: lab.baud == 921600
    assert_updated(lab, lab.update(IMAGE, attempts=2))
    assert count(lab, frames.SetBaud) <= 4


def test_staged_at_the_raised_speed_is_kept_alive(make_lab: MakeLab) -> None:
    lab = fast(make_lab)
    lab.identify()
    assert isinstance(lab.transfer(IMAGE), Staged)
    end = lab.now + 20.0
    lab.at(20.0, lambda: None)
    lab.run_until(lambda: lab.now >= end)
    assert lab.device.baud == 921600
    assert lab.activate().acknowledged is True  # type: ignore[union-attr]  # Activated, or the test fails


# Devices of all sizes


@pytest.mark.parametrize(
    "changes",
    [
        {"max_frame": 138, "window": 128, "rx_ring": 160},
        {"max_frame": 266, "window": 1024, "rx_ring": 600},
        {"max_frame": 1034, "window": 1024, "rx_ring": 1100},
        {"max_frame": 1001, "window": 3000, "rx_ring": 2100, "write_unit": 32},
        {"max_frame": 2000, "window": 65536, "rx_ring": 65536, "erase_block": 2048, "write_unit": 16},
        {"erase_block": 16384, "slot_size": 131072},
    ],
    ids=lambda changes: " ".join(f"{name}={value}" for name, value in changes.items()),
)
def test_devices_of_all_sizes(make_lab: MakeLab, changes: dict[str, int]) -> None:
    lab = make_lab(**changes)
    assert_updated(lab, lab.update(IMAGE))
    assert payload_sent(lab) == len(IMAGE.content)
    assert lab.session.traffic.image_bytes_repeated == 0


# The lab itself


def test_the_lab_notices_a_gateway_that_says_too_much() -> None:
    lab = Lab(python_device(), latency_s=1.0)
    lab.identify()
    lab.session.transfer(IMAGE, lab.now)
    lab.run_until_sent(frames.Data)
    lab.session._flow.credit = 1 << 30  # type: ignore[attr-defined]  # noqa: SLF001 - to break it
    lab.session._flow._limits = dataclasses.replace(  # type: ignore[attr-defined]  # noqa: SLF001
        lab.session._flow._limits,  # type: ignore[attr-defined]  # noqa: SLF001
        window=1 << 30,
        ring=1 << 30,
    )
    with pytest.raises(AssertionError, match="DATA up to"):
        lab.run_until_outcome(Staged)


def test_the_lab_notices_a_wait_for_ever() -> None:
    lab = Lab(python_device())
    lab.identify()
    with pytest.raises(AssertionError, match="nothing will ever happen"):
        lab.run_until_outcome(Identified)


def test_time_passes_between_attempts() -> None:
    lab = Lab(python_device())
    lab.losing = lambda _frame: lab.now < 7.0
    assert_updated(lab, lab.update(IMAGE, attempts=2))
    assert lab.now > 5.0 + RETRY_S
