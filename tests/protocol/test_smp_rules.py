"""What SMP devices do outside the ordinary course of an update: each rule with a device that needs it."""

from typing import TYPE_CHECKING, Any

import pytest
from lab.smp.answers import Answer, change_answers, is_test, is_upload
from lab.smp.memory import Lab, Worker, as_image, firmware, make_lab, slots

from gatewayd.protocol import session
from gatewayd.protocol.session import Failed, Identified, Progress, TransferStarted
from gatewayd.protocol.smp.permissions import Permissions
from gatewayd.protocol.steps import Step
from gatewayd.simulator.line import LineProfile
from gatewayd.simulator.smp.server import ServerProfile

if TYPE_CHECKING:
    from collections.abc import Callable

NEW = firmware(1)


def identified(lab: Lab) -> session.DeviceInfo:
    outcome = lab.run(lambda now: lab.session.identify(now, 5.0))
    assert isinstance(outcome, Identified)
    return outcome.info


def test_nothing_of_an_upload_counts_as_durable() -> None:
    """A power cut makes the device begin at zero, so no byte survives one."""
    lab = make_lab()
    assert Worker(lab, NEW).run() is Step.SUCCEED
    assert {event.durable for event in lab.events if isinstance(event, Progress)} == {0}
    assert not any(event.is_durable for event in lab.events if isinstance(event, TransferStarted))


@pytest.mark.parametrize(
    ("mode", "can_revert"),
    [(None, None), (1, True), (2, False), (3, True), (4, False), (5, True), (6, False), (9, True)],
)
def test_only_a_bootloader_that_says_so_can_revert(mode: int | None, can_revert: bool | None) -> None:
    assert identified(make_lab(profile=ServerProfile(mode=mode))).can_revert is can_revert


def test_a_device_that_runs_its_second_slot_cannot_be_taken_for_one_that_swaps() -> None:
    lab = make_lab()

    def second(asked: Any, ordinary: Answer) -> dict[str, Any]:
        answer = ordinary(asked)
        return {**answer, "images": [{**one, "slot": 1} for one in answer.get("images", ())]}

    change_answers(lab, second)
    assert identified(lab).can_revert is False


def no_trial(asked: Any, ordinary: Answer) -> dict[str, Any]:
    """Direct XIP and RAM load: no trial can be asked for, as the server with the larger board answers."""
    return {"rc": 8} if is_test(asked) else ordinary(asked)


def test_a_bootloader_without_a_trial_is_named() -> None:
    lab = make_lab()
    change_answers(lab, no_trial)
    outcome = Worker(lab, NEW).run()
    assert isinstance(outcome, Failed)
    assert (outcome.error.code, lab.server.boots) == ("no_trial_boot", 1)


def test_a_bootloader_without_a_trial_starts_the_newest_image_where_that_is_accepted() -> None:
    lab = make_lab(may=Permissions(start_without_trial=True))
    change_answers(lab, no_trial)
    flash = lab.server.slots
    boot = flash.boot

    def newest() -> bool:
        if flash.secondary:
            flash.primary, flash.secondary = flash.secondary, b""
        return boot()

    flash.boot = newest  # type: ignore[method-assign]
    assert Worker(lab, NEW).run() is Step.SUCCEED
    assert (flash.primary, flash.trials) == (NEW, 0)


@pytest.mark.parametrize("accepted", [False, True])
def test_an_image_that_the_device_will_keep_without_a_trial_needs_permission(accepted: bool) -> None:
    """Direct XIP lists the newer image as permanent as soon as it is there, and refuses to test it."""
    lab = make_lab(may=Permissions(start_without_trial=accepted))

    def permanent(asked: Any, ordinary: Answer) -> dict[str, Any]:
        if is_test(asked):
            return {"err": {"group": 1, "rc": 28}}
        answer = ordinary(asked)
        for one in answer.get("images", ()):
            if one.get("slot") == 1 and "active" in one:
                one["pending"] = one["permanent"] = True
        return answer

    change_answers(lab, permanent)
    identified(lab)
    assert isinstance(lab.run(lambda now: lab.session.transfer(as_image(NEW), now)), session.Staged)
    outcome = lab.run(lab.session.arm)
    if accepted:
        assert isinstance(outcome, session.Armed)
    else:
        assert isinstance(outcome, Failed)
        assert outcome.error.code == "no_trial_boot"


def second_image(lab: Lab, asked_for: list[Any]) -> None:
    """The device's slots are those of its second image; the first one stays as it is."""

    def answer(asked: Any, ordinary: Answer) -> dict[str, Any]:
        asked_for.append(asked)
        if is_upload(asked) and asked.payload["off"] == 0 and asked.payload.get("image") != 1:
            return {"err": {"group": 1, "rc": 14}}
        found = ordinary(asked)
        if "splitStatus" not in found:
            return found
        first = {"image": 0, "slot": 0, "version": "7.0.0", "hash": bytes(32), "active": True}
        own = [{**one, "image": 1} for one in found["images"]]
        return {**found, "images": [{**first, "confirmed": True, "pending": False}, *own]}

    change_answers(lab, answer)


def test_the_second_of_several_images_is_updated_and_confirmed_by_its_hash() -> None:
    """Without a hash a server confirms its own image, which is the first."""
    lab = make_lab(image=1)
    asked_for: list[Any] = []
    second_image(lab, asked_for)
    info = identified(lab)
    assert info.version == "1.0.0"
    assert Worker(lab, NEW).run() is Step.SUCCEED
    (confirmation,) = [one.payload for one in asked_for if one.payload.get("confirm") is True]
    assert confirmation["hash"] == as_image(NEW).id.digest


def test_the_only_image_is_confirmed_without_a_hash() -> None:
    lab = make_lab()
    asked_for: list[Any] = []

    def note(asked: Any, ordinary: Answer) -> dict[str, Any]:
        asked_for.append(asked)
        return ordinary(asked)

    change_answers(lab, note)
    assert Worker(lab, NEW).run() is Step.SUCCEED
    assert [one.payload for one in asked_for if one.payload.get("confirm") is True] == [{"confirm": True}]


def test_a_device_that_wants_an_earlier_offset_gets_it() -> None:
    """It lost a chunk that it had acknowledged; the bytes from there on are sent again, and no others."""
    lab = make_lab()
    server = lab.server
    fallen: list[int] = []

    def falls_back(asked: Any, ordinary: Answer) -> dict[str, Any]:
        answer = ordinary(asked)
        if is_upload(asked) and asked.payload["off"] > 5000 and not fallen:
            fallen.append(answer["off"])
            server.slots.secondary = server.slots.secondary[:4000]
            server._wanted = 4000  # noqa: SLF001 - as above
            return {"off": 4000}
        return answer

    change_answers(lab, falls_back)
    assert Worker(lab, NEW).run() is Step.SUCCEED
    assert server.slots.primary == NEW
    assert 0 < lab.session.traffic.image_bytes_repeated < 2500


@pytest.mark.parametrize("offset", [len(NEW) + 1, 1 << 40])
def test_a_device_that_wants_more_than_there_is_fails(offset: int) -> None:
    lab = make_lab()
    change_answers(
        lab,
        lambda asked, ordinary: (
            {"off": offset} if is_upload(asked) and asked.payload["off"] > 5000 else ordinary(asked)
        ),
    )
    outcome = Worker(lab, NEW).run()
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "bad_offset"


def test_old_answers_that_come_again_mislead_nobody() -> None:
    """Each answer comes twice, the second time behind the next one."""
    lab = make_lab()
    kept: list[bytes] = []

    def again(way: str, data: bytes) -> bytes:
        if way == ">" or not data:
            return data
        kept.append(data)
        return data + (kept[-2] if len(kept) > 1 else b"")

    lab.pass_on = again
    assert Worker(lab, NEW).run() is Step.SUCCEED
    assert lab.session.traffic.image_bytes_repeated == 0
    assert lab.server.slots.primary == NEW


def test_a_device_that_only_repeats_an_old_answer_is_given_up() -> None:
    lab = make_lab()
    change_answers(
        lab,
        lambda asked, ordinary: (
            {"off": 3000} if is_upload(asked) and asked.payload["off"] > 3000 else ordinary(asked)
        ),
    )
    outcome = Worker(lab, NEW).run()
    assert isinstance(outcome, Failed)
    assert outcome.error.code in ("stalled", "backwards")


@pytest.mark.parametrize("command", ["parameters", "test", "confirm"])
def test_busy_is_waited_for_at_each_question(command: str) -> None:
    lab = make_lab(slots())
    left = [3]
    meant: dict[str, Callable[[Any], bool]] = {
        "parameters": lambda asked: (asked.group, asked.command) == (0, 6),
        "test": is_test,
        "confirm": lambda asked: asked.payload.get("confirm") is True,
    }

    def busy(asked: Any, ordinary: Answer) -> dict[str, Any]:
        if meant[command](asked) and left[0]:
            left[0] -= 1
            return {"rc": 10}
        return ordinary(asked)

    change_answers(lab, busy)
    assert Worker(lab, NEW).run() is Step.SUCCEED
    assert left == [0]


def test_one_that_is_busy_for_ever_is_given_up() -> None:
    lab = make_lab(busy_s=20.0)
    change_answers(lab, lambda asked, ordinary: {"rc": 10} if is_upload(asked) else ordinary(asked))
    outcome = Worker(lab, NEW).run()
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "device_busy"


class Losses:
    """A line that loses one in so many uploads, of those in some range."""

    def __init__(self, every: int, until: int = 10_000) -> None:
        self._every, self._until = every, until
        self.uploads = 0

    def __call__(self, way: str, data: bytes) -> bytes:
        if way != ">" or len(data) < 300:
            return data
        self.uploads += 1
        return b"" if self.uploads % self._every == 0 and self.uploads < self._until else data


def seconds_of_upload(losses: Losses | None) -> float:
    """How long an upload takes over a line with latency."""
    lab = make_lab(line=LineProfile(11_520, 0.02))
    identified(lab)
    lab.pass_on = losses or lab.pass_on
    began = lab.now
    image = as_image(firmware(1, 60_000))
    assert isinstance(lab.run(lambda now: lab.session.transfer(image, now)), session.Staged)
    return lab.now - began


def test_a_loss_now_and_then_does_not_halve_the_speed() -> None:
    clean = seconds_of_upload(None)
    assert seconds_of_upload(Losses(every=14)) < 1.8 * clean


def test_many_losses_lead_to_one_request_at_a_time_and_two_are_tried_again() -> None:
    """The window falls while each third is lost; were it to stay, the rest would take twice as long."""
    clean = seconds_of_upload(None)
    assert seconds_of_upload(Losses(every=3, until=30)) < 2.2 * clean
