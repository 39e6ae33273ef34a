"""The same stories over perfect, one-byte, lossy and delayed lines, with every receiver there is."""

import dataclasses
from functools import partial

import pytest
from lab.rcp.devices import OLD, PROFILE, python_device
from lab.rcp.joined import RETRY_S, Lab, make_image
from lab.rcp.stories import IMAGE, MakeLab, assert_updated, failed_code

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.tlv_frames import Hello, Offer
from gatewayd.protocol.session import (
    AlreadyRunning,
    Confirmed,
    Console,
    Deferred,
    Identified,
    Staged,
)

pytestmark = pytest.mark.slow  # 15 s of a processor; test_rcp_rules and test_rcp_flow have each rule

# Over every line, and in packets of every size
PACKETS = [None, 20, 182, 244, 512]


@pytest.fixture(params=PACKETS, ids=str)
def packet(request: pytest.FixtureRequest) -> int | None:
    size: int | None = request.param
    return size


on_streams_only = pytest.mark.parametrize("packet", [None])
in_some_packets = pytest.mark.parametrize("packet", [None, 244])


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
    assert lab.starts[-1] >= 8192


def test_a_power_cut_in_the_transfer_resumes(lab: Lab) -> None:
    lab.identify()
    lab.session.transfer(IMAGE, lab.now)
    lab.run_until_durable(8192)
    lab.device.power_cut(lab.now)
    outcome = lab.run_until_outcome(Staged)
    assert isinstance(outcome, Staged)
    assert lab.starts[-1] >= 8192
    lab.restart_gateway()
    assert_updated(lab, lab.update(IMAGE))


def test_a_device_that_was_erasing_and_hashing_slowly(make_lab: MakeLab) -> None:
    lab = make_lab(erase_s=0.7)
    assert_updated(lab, lab.update(IMAGE))
    assert lab.count(frames.Busy) > 1
    assert lab.count(Offer) == 1  # BUSY was believed


def test_who_has_the_image_already_is_sent_nothing(lab: Lab) -> None:
    assert_updated(lab, lab.update(IMAGE))
    sent = lab.payload_sent
    lab.restart_gateway()
    lab.identify()
    assert lab.transfer(IMAGE) == AlreadyRunning()
    assert lab.confirm(IMAGE) == Confirmed()
    assert lab.payload_sent == sent


# What comes again after an interruption


@in_some_packets
def test_after_a_kill_at_most_a_window_and_an_erase_block_come_again(make_lab: MakeLab) -> None:
    for data in range(1, 21):
        lab = make_lab()
        lab.identify()
        lab.session.transfer(IMAGE, lab.now)
        lab.run_until_sent(frames.Data, data)
        lab.restart_gateway()
        assert_updated(lab, lab.update(IMAGE))
        assert lab.payload_sent <= len(IMAGE.content) + PROFILE.window + PROFILE.erase_block, data


@in_some_packets
def test_after_a_power_cut_at_most_a_window_and_an_erase_block_come_again(make_lab: MakeLab) -> None:
    for data in range(1, 21):
        lab = make_lab()
        lab.identify()
        lab.session.transfer(IMAGE, lab.now)
        lab.run_until_sent(frames.Data, data)
        lab.device.power_cut(lab.now)
        assert isinstance(lab.run_until_outcome(Staged), Staged)
        assert lab.payload_sent <= len(IMAGE.content) + PROFILE.window + PROFILE.erase_block, data


@on_streams_only  # what flash does knows no link
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


@on_streams_only
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
    lab.session._engine._gateway_id = "other"  # type: ignore[attr-defined]  # noqa: SLF001 - RcpGateway's
    lab.identify()
    deferred = lab.transfer(IMAGE)
    assert isinstance(deferred, Deferred)
    assert (deferred.seconds, deferred.reason) == (10, 1)
    lab.pass_time(deferred.seconds)
    assert_updated(lab, lab.update(IMAGE))


@on_streams_only
def test_a_line_that_leads_back_to_the_gateway_has_nobody_on_it(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.to_device = lab.to_gateway
    assert failed_code(lab.identify()) == "no_answer"


def test_a_dead_device_fails_when_patience_ends_and_not_before(make_lab: MakeLab, packet: int | None) -> None:
    lab = make_lab()
    lab.losing = lambda _frame: True
    assert failed_code(lab.identify(patience_s=5.0)) == "no_answer"
    assert lab.now == pytest.approx(5.0, abs=0.3)
    assert (
        (15 if packet is None else 2) <= lab.count(Hello) <= 21
    )  # an INFO may take seconds in small packets


def test_a_cable_pulled_for_good_in_the_transfer_ends_it(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.identify()
    lab.session.transfer(IMAGE, lab.now)
    lab.run_until_sent(frames.Data, 6)
    lab.losing = lambda _frame: True
    assert failed_code(lab.run_until_outcome(Staged)) in {"no_answer", "stalled"}
    assert lab.now < (60 if packet is None else 20)


def test_a_cable_pulled_for_seconds_does_not(make_lab: MakeLab) -> None:
    lab = make_lab()
    lab.identify()
    lab.session.transfer(IMAGE, lab.now)
    lab.run_until_sent(frames.Data, 6)
    lab.losing = lambda _frame: True
    lab.at(4.0, lambda: setattr(lab, "losing", lambda _frame: False))
    assert isinstance(lab.run_until_outcome(Staged), Staged)
    assert lab.payload_sent <= len(IMAGE.content) + PROFILE.window


# Refusals


def test_an_image_that_does_not_fit_is_refused(make_lab: MakeLab) -> None:
    lab = make_lab(slot_size=16384)
    assert failed_code(lab.update(IMAGE)) == "too_large"
    assert lab.payload_sent == 0


def test_an_image_that_does_not_hold_is_given_up_and_never_activated_again(make_lab: MakeLab) -> None:
    lab = make_lab(trial_cap_s=30)
    lab.losing = lambda frame: isinstance(frame, frames.Confirm)
    outcome = lab.update(IMAGE, attempts=20)
    assert failed_code(outcome) == "reverted"
    assert lab.device.running_image == OLD
    lab.losing = lambda _frame: False
    activations = lab.count(frames.Activate)
    assert failed_code(lab.update(IMAGE, attempts=3)) == "reverted"
    lab.restart_gateway()
    lab.identify()
    assert failed_code(lab.transfer(IMAGE)) == "already_tried"
    assert lab.count(frames.Activate) == activations == 1


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
    assert lab.payload_sent == len(IMAGE.content)
    assert lab.session.traffic.image_bytes_repeated == 0


# The lab itself


def test_the_lab_notices_a_gateway_that_says_too_much() -> None:
    lab = Lab(python_device(), latency_s=1.0)
    lab.identify()
    lab.session.transfer(IMAGE, lab.now)
    lab.run_until_sent(frames.Data)
    lab.session._engine.flow.credit = 1 << 30  # type: ignore[attr-defined]  # noqa: SLF001 - to break it
    lab.session._engine.flow._limits = dataclasses.replace(  # type: ignore[attr-defined]  # noqa: SLF001
        lab.session._engine.flow._limits,  # type: ignore[attr-defined]  # noqa: SLF001
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
