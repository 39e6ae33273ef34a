"""What the doctor makes of what the daemon says of itself."""

from pathlib import Path
from typing import Any

import pytest
from lab.daemon_status import a_status

from gatewayd.config import Gateway
from gatewayd.control.messages import PauseFact, RefusedMessage, Trouble
from gatewayd.doctor.process import judge_status

GATEWAY = Gateway(id="barn", control_socket=Path("/run/x"))


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        ({}, ["ok", "ok", "ok"]),
        ({"lag_ms": 101.0}, ["ok", "ok", "loop_late"]),
        ({"trouble": Trouble(code="disk_full", reason="no room")}, ["ok", "disk_full", "ok", "ok"]),
        ({"paused": PauseFact(by="ann", since="noon")}, ["ok", "paused", "ok", "ok"]),
        ({"broker": {"connected": False, "subscribed": ()}}, ["ok", "not_connected", "ok"]),
        ({"broker": {"subscribed": ("/b",)}}, ["ok", "subscription_refused", "ok"]),
        (
            {"broker": {"connected": False, "subscribed": ("/b",), "next_connection_at": "at noon"}},
            ["ok", "ok", "ok"],
        ),
    ],
)
def test_what_the_daemon_says_of_itself(values: dict[str, Any], codes: list[str]) -> None:
    findings = judge_status(GATEWAY, a_status(**values))
    assert [finding.code or "ok" for finding in findings] == codes
    assert all((finding.hint is None) == (finding.code is None) for finding in findings)


def test_a_message_that_was_refused_is_told() -> None:
    message = RefusedMessage(topic="/a", code="qos0", reason="came with QoS 0")
    finding = judge_status(GATEWAY, a_status(broker={"refused_messages": (message,)}))[2]
    assert (finding.code, finding.text) == ("qos0", "the last message on /a was refused: came with QoS 0")


def test_a_daemon_that_sleeps_says_until_when() -> None:
    status = a_status(
        broker={"connected": False, "every_s": 21600, "next_connection_at": "2026-11-26T06:00:00"}
    )
    finding = judge_status(GATEWAY, status)[1]
    assert "is sleeping, and next connects to mq:1883 at 2026-11-26T06:00:00" in finding.text
