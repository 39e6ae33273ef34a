"""Whole updates over SMP, with everything that can go wrong, against the model of Zephyr's server."""

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import pytest
from lab.seeds import seeds
from lab.smp.memory import LINE, Killed, Lab, Worker, as_image, firmware, make_lab, slots

from gatewayd.protocol import session
from gatewayd.protocol.kind import SessionContext
from gatewayd.protocol.session import AlreadyRunning, Failed, TransferStarted
from gatewayd.protocol.smp.kind import SmpSettings, make_session
from gatewayd.protocol.smp.permissions import Permissions
from gatewayd.protocol.smp.wire import Framing
from gatewayd.protocol.steps import Step
from gatewayd.simulator.line import LineProfile
from gatewayd.simulator.smp.server import ServerProfile

NEW = firmware(1)
MOST_OF_A_QUESTION = 100  # bytes; requests with a part of an image are longer
LINES = {
    "perfect": LineProfile(),
    "uart": LINE,
    "slow": LineProfile(1152, 0.02),
    "gaps": dataclasses.replace(LINE, drop_rate=2e-4),
    "lossy": dataclasses.replace(LINE, flip_rate=1e-4, drop_rate=1e-4),
    "delayed": LineProfile(11520, 0.3),
}
PROFILES = {
    "zephyr": ServerProfile(),
    "raw": ServerProfile(framing=Framing.RAW),
    "tiny buffers": ServerProfile(buffer_size=96, buffer_count=2),
    "large buffers": ServerProfile(buffer_size=2048),
    "slow flash": ServerProfile(erase_s=15.0, write_s=0.1),
}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("profile", PROFILES)
def test_an_update_succeeds(line: str, profile: str) -> None:
    is_checked = line != "lossy" or profile != "raw"
    lab = make_lab(profile=PROFILES[profile], line=LINES[line if is_checked else "gaps"])
    assert Worker(lab, NEW).run() is Step.SUCCEED
    assert (lab.server.slots.primary, lab.server.slots.is_confirmed) == (NEW, True)
    assert lab.server.boots == 2


def test_nothing_is_repeated_on_a_good_line_and_two_requests_are_in_flight() -> None:
    lab = make_lab()
    assert Worker(lab, NEW).run() is Step.SUCCEED
    assert lab.session.traffic.image_bytes_repeated == 0
    assert lab.session.traffic.image_bytes_sent == len(NEW)


class Cut:
    """A line that carries nothing for a while, from some number of bytes on."""

    def __init__(self, lab: Any, after: int, seconds: float) -> None:
        self.lab, self.after, self.seconds = lab, after, seconds
        self.passed = 0
        self.until: float | None = None

    def __call__(self, way: str, data: bytes) -> bytes:
        if way == ">" and self.until is None:
            self.passed += len(data)
            if self.passed >= self.after:
                self.until = self.lab.now + self.seconds
        return b"" if self.until is not None and self.lab.now < self.until else data


@pytest.mark.parametrize("after", [900, 5000, 12_345, 29_000])
def test_a_cut_line_repeats_nothing_that_had_arrived(after: int) -> None:
    lab = make_lab()
    lab.pass_on = Cut(lab, after, 3.0)
    assert Worker(lab, NEW).run() is Step.SUCCEED
    assert lab.session.traffic.image_bytes_repeated == 0


@pytest.mark.parametrize("after", [600, 9000, 20_000])
def test_the_same_boot_resumes_after_the_gateway_was_killed(after: int) -> None:
    lab = make_lab()
    worker = Worker(lab, NEW)
    lab.run(lambda now: lab.session.identify(now, 5.0))
    lab.session.transfer(as_transfer(worker), lab.now)
    lab.until(lambda: lab.session.traffic.image_bytes_sent >= after)
    worker.restart_gateway()
    assert worker.run() is Step.SUCCEED
    starts = [event.offset for event in lab.events if isinstance(event, TransferStarted)]
    assert starts[-1] > 0
    assert lab.session.traffic.resumes == 1
    assert lab.session.traffic.image_bytes_sent <= len(NEW) - starts[-1] + 32


def as_transfer(worker: Worker) -> session.Image:
    return as_image(worker.content)


@pytest.mark.parametrize("after", [600, 9000, 20_000])
def test_a_power_cut_begins_from_zero(after: int) -> None:
    lab = make_lab()
    worker = Worker(lab, NEW)
    lab.run(lambda now: lab.session.identify(now, 5.0))
    lab.session.transfer(as_transfer(worker), lab.now)
    lab.until(lambda: lab.session.traffic.image_bytes_sent >= after)
    lab.server.power_cut(lab.now)
    outcome = lab.until(lambda: False)
    assert isinstance(outcome, session.Staged)
    starts = [event.offset for event in lab.events if isinstance(event, TransferStarted)]
    assert starts == [0, 0]
    assert lab.server.slots.secondary == NEW


def staged(lab: Any) -> Worker:
    worker = Worker(lab, NEW)
    lab.run(lambda now: lab.session.identify(now, 5.0))
    assert isinstance(lab.run(lambda now: lab.session.transfer(as_transfer(worker), now)), session.Staged)
    worker.restart_gateway()
    return worker


def test_a_complete_image_is_not_uploaded_again() -> None:
    lab = make_lab()
    worker = staged(lab)
    assert worker.run() is Step.SUCCEED
    assert lab.session.traffic.image_bytes_sent == 0


def test_an_image_that_a_device_lists_and_does_not_start_is_uploaded_again() -> None:
    """Zephyr 4.4 with swap using offset: what was uploaded before the last boot cannot be tested."""
    lab = make_lab()
    worker = staged(lab)
    lab.server.power_cut(lab.now)
    lab.wait(1.0)
    assert worker.run() is Step.SUCCEED
    assert lab.session.traffic.image_bytes_sent == len(NEW)
    assert lab.server.slots.primary == NEW


def test_what_runs_already_is_not_uploaded_at_all() -> None:
    lab = make_lab()
    lab.run(lambda now: lab.session.identify(now, 5.0))
    old = Worker(lab, lab.server.slots.primary)
    assert isinstance(lab.run(lambda now: lab.session.transfer(as_transfer(old), now)), AlreadyRunning)


def test_a_lost_answer_to_the_last_chunk_costs_no_second_upload() -> None:
    """The server has finished by then, and tells offset 0 to the chunk that comes again."""
    lab = make_lab()
    lab.pass_on = lambda way, data: (
        b"" if way == "<" and lab.server.slots.secondary == NEW and not lost else data
    )
    lost: list[int] = []
    worker = Worker(lab, NEW)
    lab.run(lambda now: lab.session.identify(now, 5.0))
    lab.session.transfer(as_transfer(worker), lab.now)
    lab.until(lambda: lab.server.slots.secondary == NEW)
    lab.wait(0.3)
    lost.append(1)
    assert isinstance(lab.until(lambda: False), session.Staged)
    assert lab.session.traffic.image_bytes_sent < len(NEW) + 1000
    assert lab.server.slots.secondary == NEW


def test_an_image_that_hangs_is_tried_once_and_reverted() -> None:
    lab = make_lab()
    hanging = firmware(2, hangs=True)
    worker = Worker(lab, hanging)
    outcome = worker.run()
    assert isinstance(outcome, Failed)  # it is silent until its power is cut
    lab.server.power_cut(lab.now)
    lab.wait(1.0)
    worker.restart_gateway()
    assert worker.run() is Step.FAIL_REVERTED
    assert lab.server.slots.primary == firmware(0)
    boots = lab.server.boots
    assert worker.run() is Step.FAIL_REVERTED
    assert lab.server.boots == boots


@pytest.mark.parametrize("unfinished_s", [3.0, 4.5])
@pytest.mark.parametrize("seed", seeds(24))
def test_bytes_lost_on_a_raw_line_are_never_made_up_from_the_next_request(
    seed: int, unfinished_s: float
) -> None:
    """A device that lacks a part of a request takes what comes next for it, if that comes too soon."""
    gaps = dataclasses.replace(LINE, drop_rate=random.Random(seed).choice([5e-5, 2e-4, 6e-4]))
    raw = dataclasses.replace(PROFILES["raw"], unfinished_s=unfinished_s)
    lab = make_lab(profile=raw, line=gaps, seed=seed)
    assert Worker(lab, NEW).run() is Step.SUCCEED
    assert lab.server.slots.primary == NEW
    assert lab.server.boots == 2, "it was rejected once, and sent again"


@pytest.mark.parametrize("nth", range(1, 12))
def test_a_gateway_killed_in_the_middle_of_a_raw_request_leaves_nothing_behind(nth: int) -> None:
    lab = make_lab(profile=PROFILES["raw"])
    worker = Worker(lab, NEW)
    requests = 0

    def cut(way: str, data: bytes) -> bytes:
        nonlocal requests
        requests += way == ">" and len(data) > MOST_OF_A_QUESTION
        if way == ">" and requests == nth:
            raise Killed(data[: len(data) // 2])
        return data

    lab.pass_on = cut
    try:
        worker.run()
    except Killed as end:
        lab.pass_on = lambda _way, data: data
        lab.server.receive_data(end.args[0], lab.now)
        worker.restart_gateway()
        assert worker.run() is Step.SUCCEED
    assert (lab.server.slots.primary, lab.server.boots) == (NEW, 2)


@pytest.mark.parametrize("framing", list(Framing))
def test_an_image_damaged_on_a_line_without_checksums_is_sent_once_more(framing: Framing) -> None:
    lab = make_lab(profile=ServerProfile(framing=framing))
    worker = Worker(lab, NEW)
    worker.on_step = damaging(lab, times=1)
    is_raw = framing is Framing.RAW
    assert worker.run() is (Step.SUCCEED if is_raw else Step.FAIL_REJECTED)
    assert lab.server.slots.primary == (NEW if is_raw else firmware(0))


def test_an_image_that_the_bootloader_never_accepts_is_sent_twice_at_most() -> None:
    lab = make_lab(slots(verify=lambda _image: False), ServerProfile(framing=Framing.RAW))
    worker = Worker(lab, NEW)
    assert worker.run() is Step.FAIL_REJECTED
    assert worker.steps.count(Step.TRANSFER) == 2
    assert worker.run() is Step.FAIL_REJECTED
    assert worker.steps.count(Step.TRANSFER) == 2


def damaging(lab: Lab, *, times: int) -> Callable[[str], None]:
    """Return a hook that changes a byte of the uploaded image before it is armed."""
    left = times

    def damage(name: str) -> None:
        nonlocal left
        if name == "arm" and left:
            left -= 1
            content = bytearray(lab.server.slots.secondary)
            content[5000] ^= 1
            lab.server.slots.secondary = bytes(content)

    return damage


def test_an_image_damaged_in_flash_does_not_start_and_is_not_tried_again() -> None:
    lab = make_lab()
    worker = Worker(lab, NEW)
    worker.on_step = damaging(lab, times=1)
    assert worker.run() is Step.FAIL_REJECTED
    boots = lab.server.boots
    assert worker.run() is Step.FAIL_REJECTED
    assert lab.server.boots == boots


@pytest.mark.parametrize("hangs", [False, True])
@pytest.mark.parametrize("nth", range(12))
def test_a_gateway_killed_between_any_two_steps_ends_right(nth: int, hangs: bool) -> None:
    """The kill comes before an operation begins; what was stored by then is all that is left."""
    lab = make_lab()
    worker = Worker(lab, firmware(3, hangs=hangs))
    seen = 0

    class Stop(Exception):  # noqa: N818 - what the test asked for
        pass

    def count(name: str) -> None:
        nonlocal seen
        del name
        seen += 1
        if seen == nth + 1:
            raise Stop

    worker.on_step = count
    for _ in range(3):
        try:
            outcome = worker.run()
            if outcome in (Step.SUCCEED, Step.FAIL_REVERTED):
                break
        except Stop:
            pass
        if hangs:
            lab.server.power_cut(lab.now)
        lab.wait(1.0)
        worker.restart_gateway()
    worker.on_step = lambda _name: None
    if hangs:
        assert worker.run() is Step.FAIL_REVERTED
        assert lab.server.slots.primary == firmware(0)
        assert lab.server.slots.trials == 1
    else:
        assert worker.run() is Step.SUCCEED
        assert lab.server.slots.is_confirmed


def test_busy_is_waited_for() -> None:
    lab = make_lab()
    original = lab.server._answer  # noqa: SLF001 - a server that is busy five times
    left = [5]

    def answer(asked: Any) -> dict[str, Any]:
        if asked.group == 1 and asked.command == 1 and asked.payload["off"] > 3000 and left[0]:
            left[0] -= 1
            return {"rc": 10}
        return original(asked)

    lab.server._answer = answer  # type: ignore[method-assign]  # noqa: SLF001 - as above
    assert Worker(lab, NEW).run() is Step.SUCCEED
    assert left == [0]


def test_another_image_on_trial_is_left_alone() -> None:
    flash = slots(firmware(7), is_confirmed=False, old=firmware(0))
    lab = make_lab(flash)
    flash.primary, flash.is_confirmed = firmware(7), False
    outcome = Worker(lab, NEW).run()
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "on_trial"


class Recovery:
    """Serial recovery: no OS info, slots without flags, and a restart that may start the application."""

    def __init__(self, lab: Any, *, leaves: bool) -> None:
        self.resets = 0
        self._lab, self._leaves = lab, leaves
        self._original = lab.server._answer  # noqa: SLF001 - what answers in its place
        lab.server._answer = self  # noqa: SLF001 - as above

    def __call__(self, asked: Any) -> dict[str, Any]:
        if self._leaves and self.resets:
            found: dict[str, Any] = self._original(asked)
            return found
        if (asked.group, asked.command) == (0, 5):
            self.resets += 1
            return {}
        if (asked.group, asked.command) == (0, 6):
            return {"buf_size": 1024, "buf_count": 1}
        if (asked.group, asked.command) == (1, 0):
            return {"images": [{"slot": 0, "version": "1.0.0"}]}
        return {"rc": 8}


def test_serial_recovery_is_left_by_a_restart() -> None:
    lab = make_lab()
    recovery = Recovery(lab, leaves=True)
    assert Worker(lab, NEW).run() is Step.SUCCEED
    assert recovery.resets == 1


@pytest.mark.parametrize("allowed", [False, True])
def test_serial_recovery_that_stays_is_named_or_used(allowed: bool) -> None:
    lab = make_lab(may=Permissions(use_recovery=allowed))
    recovery = Recovery(lab, leaves=False)
    outcome = lab.run(lambda now: lab.session.identify(now, 5.0))
    assert recovery.resets == 1
    if allowed:
        assert isinstance(outcome, session.Identified)
        assert outcome.info.version is None
    else:
        assert isinstance(outcome, Failed)
        assert outcome.error.code == "in_recovery"


def test_a_scan_restarts_nothing() -> None:
    lab = make_lab()
    lab.session = make_session(SessionContext("barn", settings=SmpSettings(), only_identifies=True))
    recovery = Recovery(lab, leaves=False)
    assert isinstance(lab.run(lambda now: lab.session.identify(now, 5.0)), session.Identified)
    assert recovery.resets == 0
