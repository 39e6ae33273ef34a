"""What is told, when it is the same, and that what devices say stays one short line."""

from typing import Any

import pytest
from lab.daemon_status import a_status
from lab.web import NOW, a_job, a_view

from gatewayd.alerts import events
from gatewayd.alerts.events import Event, environment, of_device, of_gateway, of_jobs, summary, text
from gatewayd.codes import Code

FAILED = Event("failed", "pump-1", "7", "pump", "4.3.2", "reverted", "pump-1 restarted and runs 4.3.1 again")


def test_a_device_that_failed() -> None:
    view = a_view(state="failed", job=7, latest_version="4.3.2", code="reverted", reason=FAILED.reason)
    assert of_device(view) == FAILED


@pytest.mark.parametrize("state", ["idle", "unknown", "queued", "transferring", "staged", "activating"])
def test_a_state_that_needs_nobody_is_none(state: str) -> None:
    assert of_device(a_view(state=state)) is None


def test_neither_is_one_that_somebody_has_paused() -> None:
    """Its code and its reason are those of the pause meanwhile."""
    assert of_device(a_view(state="refused", paused=True, code="paused")) is None


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ({"state": "failed", "job": 7}, {"state": "failed", "job": 7, "reason": "other words"}, True),
        ({"state": "failed", "job": 7}, {"state": "failed", "job": 8}, False),
        ({"state": "refused", "code": "bad_signature"}, {"state": "refused", "code": "bad_signature"}, True),
        ({"state": "refused", "code": "bad_signature"}, {"state": "refused", "code": "rollback"}, False),
        (
            {"state": "refused", "code": "bad_signature", "latest_version": "4.3.2"},
            {"state": "refused", "code": "bad_signature", "latest_version": "4.3.3"},
            False,
        ),
        ({"state": "unreachable", "code": "no_answer"}, {"state": "unreachable", "code": "no_answer"}, True),
    ],
)
def test_when_it_is_the_same(first: dict[str, Any], second: dict[str, Any], *, is_same: bool) -> None:
    one, other = of_device(a_view(**first)), of_device(a_view(**second))
    assert one is not None
    assert other is not None
    assert (one.key == other.key) is is_same


def test_of_the_jobs_the_last_of_each_kind_counts() -> None:
    jobs = [
        a_job("pump-1").model_copy(update={"id": number, "state": state})
        for number, state in ((9, "cancelled"), (8, "failed"), (7, "succeeded"), (6, "failed"))
    ]
    found = list(of_jobs(jobs, {"pump-1": "pump"}))
    assert [(one.name, one.key, one.app_id) for one in found] == [
        ("failed", "8", "pump"),
        ("succeeded", "7", "pump"),
    ]


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({}, None),
        ({"config_refused": "config.yaml:3: no"}, "bad_configuration"),
        ({"trouble": {"code": "disk_full", "reason": "no room"}}, "disk_full"),
    ],
)
def test_trouble_of_the_gateway(facts: dict[str, Any], code: str | None) -> None:
    found = of_gateway(a_status(started_at=NOW, **facts))
    assert (found.code if found else None) == code


def test_the_variables_of_one_event() -> None:
    assert environment("barn", [FAILED]) == {
        "GATEWAYD_GATEWAY": "barn",
        "GATEWAYD_EVENT": "failed",
        "GATEWAYD_COUNT": "1",
        "GATEWAYD_DEVICE": "pump-1",
        "GATEWAYD_APP": "pump",
        "GATEWAYD_VERSION": "4.3.2",
        "GATEWAYD_CODE": "reverted",
        "GATEWAYD_REASON": "pump-1 restarted and runs 4.3.1 again",
        "GATEWAYD_NEXT_STEP": events.next_step("reverted"),
        "GATEWAYD_SUMMARY": "barn: pump-1: the update to 4.3.2 failed (reverted)",
    }
    assert events.next_step("reverted")


def test_several_are_told_together() -> None:
    refused = Event("refused", "tank-1", "x", code="bad_signature")
    variables = environment("barn", [FAILED, refused])
    assert (variables["GATEWAYD_EVENT"], variables["GATEWAYD_COUNT"]) == ("several", "2")
    assert variables["GATEWAYD_DEVICE"] == variables["GATEWAYD_CODE"] == ""
    assert variables["GATEWAYD_SUMMARY"] == "barn: pump-1: the update to 4.3.2 failed (reverted), and 1 more"
    told = text([FAILED, refused])
    assert "tank-1 refuses what was published (bad_signature)\n" in told
    assert f"  Next: {events.next_step('reverted')}\n" in told


def test_hundreds_are_counted() -> None:
    many = [Event("failed", f"pump-{number}", "1") for number in range(200)]
    assert text(many).splitlines()[-1] == "and 150 more: `gatewayctl devices` lists them"


@pytest.mark.parametrize("name", events.NAMES)
def test_every_event_has_its_words(name: str) -> None:
    about = "the gateway" if name == events.TROUBLE else "pump-1"
    assert summary("barn", [Event(name, "pump-1", "1", version="4.3.2")]).startswith(f"barn: {about}")


@pytest.mark.attack("line ends and control characters in what a device says, for a mail's header")
def test_what_a_device_says_stays_one_short_line() -> None:
    said = "\r\nBcc: everybody@example.org\x00\u202e$(reboot)" + "x" * 10_000
    hostile = Event("failed", "pump-1", "1", code="device_error", reason=said, version=said)
    for value in environment("barn", [hostile]).values():
        assert value.isprintable()
        assert len(value) <= events.LONGEST_TEXT
    assert len(summary("barn", [hostile])) <= events.LONGEST_SUMMARY
    assert [line for line in text([hostile]).splitlines() if line.startswith("Bcc")] == []


def test_a_code_of_another_version_has_no_next_step() -> None:
    assert events.next_step("invented_later") == ""
    assert events.next_step(Code.BAD_SIGNATURE)
