"""What SMP devices answer that is not wrong enough to give them up."""

from collections.abc import Callable
from typing import Any

import pytest
from lab.smp.answers import Answer, change_answers, is_parameters, is_test, is_upload
from lab.smp.memory import Lab, Worker, firmware, make_lab

from gatewayd.protocol.session import Failed
from gatewayd.protocol.smp.facts import UNTOLD_BUFFERS
from gatewayd.protocol.smp.wire import Framing
from gatewayd.protocol.steps import Step
from gatewayd.simulator.smp.server import ServerProfile

NEW = firmware(1)


@pytest.mark.parametrize("refusal", [{"rc": 8}, {"rc": 5}, {"err": {"group": 0, "rc": 1}}])
def test_a_device_that_refuses_to_tell_its_buffers_gets_small_requests(refusal: dict[str, Any]) -> None:
    lab = make_lab()
    longest = 0

    def refuse(asked: Any, ordinary: Answer) -> dict[str, Any]:
        nonlocal longest
        longest = max(longest, len(asked.to_bytes()))
        return refusal if is_parameters(asked) else ordinary(asked)

    change_answers(lab, refuse)
    assert Worker(lab, NEW).run() is Step.SUCCEED
    assert longest <= UNTOLD_BUFFERS.size


@pytest.mark.parametrize("told", [{"buf_size": 128}, {"buf_size": 128, "buf_count": 0}])
def test_buffers_without_a_number_are_one(told: dict[str, Any]) -> None:
    lab = make_lab(profile=ServerProfile(buffer_size=128))
    change_answers(lab, lambda asked, ordinary: told if is_parameters(asked) else ordinary(asked))
    assert Worker(lab, NEW).run() is Step.SUCCEED


def test_one_that_is_busy_before_it_says_anything_is_not_called_silent() -> None:
    lab = make_lab()
    change_answers(lab, lambda asked, ordinary: {"rc": 10} if is_parameters(asked) else ordinary(asked))
    outcome = Worker(lab, NEW).run()
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "device_busy"


@pytest.mark.parametrize("agreement", [{}, {"rc": 0}])
def test_one_that_agrees_to_a_trial_without_listing_it_is_asked(agreement: dict[str, Any]) -> None:
    lab = make_lab()

    def agree(asked: Any, ordinary: Answer) -> dict[str, Any]:
        answer = ordinary(asked)
        return agreement if is_test(asked) else answer

    change_answers(lab, agree)
    assert Worker(lab, NEW).run() is Step.SUCCEED


@pytest.mark.parametrize("strange", [{"image": 1}, {"image": "one", "slot": 0}, {"image": 1, "slot": -1}])
def test_a_slot_of_another_image_need_not_make_sense(strange: dict[str, Any]) -> None:
    lab = make_lab()

    def list_more(asked: Any, ordinary: Answer) -> dict[str, Any]:
        answer = ordinary(asked)
        return {**answer, "images": [strange, *answer["images"]]} if "images" in answer else answer

    change_answers(lab, list_more)
    assert Worker(lab, NEW).run() is Step.SUCCEED


def once_on_a_raw_line(meant: Callable[[Any], bool], answer: dict[str, Any], times: int = 1) -> Lab:
    """A device that answers some request with something else at first, as a changed byte makes it do."""
    lab = make_lab(profile=ServerProfile(framing=Framing.RAW))
    left = [times]

    def damaged(asked: Any, ordinary: Answer) -> dict[str, Any]:
        if meant(asked) and left[0]:
            left[0] -= 1
            return answer
        return ordinary(asked)

    change_answers(lab, damaged)
    return lab


@pytest.mark.parametrize("refusal", [{"rc": 3}, {"rc": 8}, {"err": {"group": 1, "rc": 20}}])
@pytest.mark.parametrize("offset", [0, 5000])
def test_a_chunk_refused_on_a_line_without_checksums_is_repeated(
    refusal: dict[str, Any], offset: int
) -> None:
    """Each of these ends a job for good where a checksum says that the device got what was sent."""
    lab = once_on_a_raw_line(lambda asked: is_upload(asked) and asked.payload["off"] >= offset, refusal, 2)
    assert Worker(lab, NEW).run() is Step.SUCCEED


def test_a_chunk_refused_again_and_again_is_not() -> None:
    lab = once_on_a_raw_line(is_upload, {"err": {"group": 1, "rc": 30}}, 1000)
    outcome = Worker(lab, NEW).run()
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "too_large"


def test_an_answer_that_cannot_be_read_on_a_line_without_checksums_is_none() -> None:
    lab = once_on_a_raw_line(
        lambda asked: (asked.group, asked.command, asked.op) == (1, 0, 0), {"imager": []}
    )
    assert Worker(lab, NEW).run() is Step.SUCCEED


@pytest.mark.parametrize(
    ("rc", "code"), [(14, "refused"), (15, "no_memory"), (19, "flash_failed"), (20, "malformed")]
)
def test_a_refused_upload_is_named(rc: int, code: str) -> None:
    lab = make_lab()
    refusal = {"err": {"group": 1, "rc": rc}}
    change_answers(lab, lambda asked, ordinary: refusal if is_upload(asked) else ordinary(asked))
    outcome = Worker(lab, NEW).run()
    assert isinstance(outcome, Failed)
    assert outcome.error.code == code
    assert "no known reason" not in str(outcome.error)
