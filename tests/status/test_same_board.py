"""One board under two names, a board that was replaced: nothing is shown as updated that was not."""

from datetime import UTC, datetime
from typing import Any

from lab.jobs import World, a_device, digest, genuine

from gatewayd.jobs.transitions import JobState
from gatewayd.status.board import DeviceStatus, StatusBoard
from gatewayd.status.feed import StatusFeed

RUNS_2: dict[str, Any] = {"version": "4.3.2", "running_sha256": bytes.fromhex(digest("image 2 None"))}


def shown(world: World) -> dict[str, DeviceStatus]:
    board = StatusBoard(lambda: datetime(2026, 11, 28, tzinfo=UTC))
    StatusFeed(board).planned(world.plan(), world.known, world.devices)
    return {status.name: status for status in board.all()}


def two_names(**first: Any) -> World:
    """The board X was updated as pump-1; then the link moved, and it answers as pump-2."""
    world = World(a_device("pump-1", **first), a_device("pump-2")).publish(genuine(2))
    world.says("pump-1", contact_seq=50, device_id="X", **RUNS_2)
    world.job(state=JobState.SUCCEEDED, device_id="X")
    return world.says("pump-2", contact_seq=60, device_id="X", **RUNS_2)


def test_where_the_board_was_nothing_is_known_any_more() -> None:
    statuses = shown(two_names())
    old, new = statuses["pump-1"], statuses["pump-2"]
    assert (old.state, old.code, old.installed_version, old.job) == ("unknown", "same_board", "4.3.1", None)
    assert "device_id 'X' answered here, and later as pump-2" in (old.reason or "")
    assert (new.state, new.code, new.installed_version) == ("idle", "up_to_date", "4.3.2")


def test_a_device_whose_id_is_configured_is_believed() -> None:
    assert shown(two_names(device_id="X"))["pump-1"].state == "succeeded"


def test_once_another_board_answers_there_it_is_shown_again() -> None:
    world = two_names()
    world.says("pump-1", contact_seq=70, device_id="Y")
    assert shown(world)["pump-1"].code == "update"


def test_boards_without_ids_are_left_alone() -> None:
    world = two_names()
    world.says("pump-1", contact_seq=50, device_id=None, **RUNS_2)
    assert shown(world)["pump-1"].state == "succeeded"


def test_a_board_that_was_never_updated_does_not_show_the_success_of_another() -> None:
    world = World(a_device()).publish(genuine(2)).says(device_id="X", **RUNS_2)
    world.job(state=JobState.SUCCEEDED, device_id="X")
    assert shown(world)["pump-1"].state == "succeeded"
    status = shown(world.says(device_id="Y", **RUNS_2))["pump-1"]
    assert (status.state, status.code, status.job) == ("idle", "up_to_date", None)


def test_an_image_under_a_higher_patch_is_no_update_for_ever() -> None:
    world = World(a_device()).publish(genuine(9, body_sha256=digest("image 2 None"))).says(**RUNS_2)
    status = shown(world)["pump-1"]
    assert (status.code, status.installed_version, status.latest_version) == ("up_to_date", "4.3.2", "4.3.2")


def test_what_is_refused_stands_beside_what_runs() -> None:
    world = World(a_device()).publish(genuine(2)).publish(genuine(3, code="bad_signature", reason="forged"))
    world.says(version="4.3.2", running_sha256=bytes.fromhex(digest("image 2 None")))
    status = shown(world)["pump-1"]
    assert status.refused_reason == "bad_signature: forged"
    assert status.to_json()["refused_reason"] == "bad_signature: forged"
    assert (status.installed_version, status.state) == ("4.3.2", "refused")
