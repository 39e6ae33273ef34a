"""Whose turn it is, and which buttons there are."""

from typing import Any

import pytest
from lab.web import a_view

from gatewayd.web.cards import actions_for, device_card, group_of

UNPLUGGED = {
    "link": {"kind": "uart", "address": "/dev/x", "baud": 1, "health": "link_missing", "reason": "gone"}
}


@pytest.mark.parametrize(
    ("state", "facts", "group", "actions"),
    [
        ("idle", {"code": "up_to_date"}, "fine", ["pause"]),
        ("idle", {"code": "no_release"}, "fine", ["pause"]),
        ("idle", {"code": "cancelled"}, "fine", ["retry", "pause"]),
        ("idle", UNPLUGGED, "needs", ["retry", "pause"]),
        ("succeeded", {"job": 7}, "fine", ["pause"]),
        ("unknown", {}, "fine", ["retry", "pause"]),
        ("offered", {"job": 7}, "waits", ["approve", "cancel", "pause"]),
        ("offered", {"job": 7, "paused": True, "code": "paused"}, "waits", ["approve", "resume", "cancel"]),
        ("idle", {"paused": True, "code": "paused"}, "waits", ["resume"]),
        ("queued", {"job": 7}, "moving", ["cancel", "pause"]),
        ("queued", {"job": 7, "code": "interrupted"}, "moving", ["retry", "cancel", "pause"]),
        ("queued", {"job": 7, "code": "on_trial"}, "moving", ["retry", "cancel", "pause"]),
        ("queued", {"job": 7, "code": "link_missing"}, "needs", ["retry", "cancel", "pause"]),
        ("queued", {"job": 7, "code": "device_changed"}, "needs", ["retry", "cancel", "pause"]),
        ("queued", {"job": 7, "code": "disk_full"}, "needs", ["retry", "cancel", "pause"]),
        ("transferring", {"job": 7}, "moving", ["cancel", "pause"]),
        ("staged", {"job": 7}, "moving", ["cancel", "pause"]),
        ("activating", {"job": 7}, "moving", []),
        ("failed", {"job": 7, "code": "reverted"}, "needs", ["retry_reverted", "pause"]),
        ("failed", {"job": 7, "code": "stalled"}, "needs", ["retry", "pause"]),
        ("refused", {"code": "bad_signature"}, "needs", ["pause"]),
        ("unreachable", {"code": "no_answer"}, "needs", ["retry", "pause"]),
    ],
    ids=str,
)
def test_a_device_is_in_the_group_of_whose_turn_it_is(
    state: str, facts: dict[str, Any], group: str, actions: list[str]
) -> None:
    view = a_view("pump-1", state, **facts)
    assert (group_of(view), actions_for(view)) == (group, actions)


@pytest.mark.parametrize(
    ("code", "told"), [(None, False), ("up_to_date", False), ("no_release", True), ("reverted", True)]
)
def test_a_reason_is_told_where_there_is_something_to_tell(code: str | None, *, told: bool) -> None:
    assert device_card(a_view(code=code))["told"] is told
