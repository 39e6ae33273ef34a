"""What Home Assistant discovers: legal topics for any names, and what its templates make of our statuses."""

import json
import re
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import jinja2
from hypothesis import example, given
from hypothesis import strategies as st
from lab.jobs import a_device, some_settings

from gatewayd.config.model.mqtt import HomeAssistant
from gatewayd.mqtt.home_assistant import (
    STATES,
    Discovery,
    discoveries,
    discovery_filter,
    discovery_root,
    object_ids,
)
from gatewayd.mqtt.topics import GatewayTopics
from gatewayd.status.board import DeviceStatus, StatusBoard
from gatewayd.status.gateway import GatewayStatus

NOW = datetime(2026, 11, 28, tzinfo=UTC)
# As Home Assistant 2026.2 has it (components/mqtt/discovery.py), behind its prefix.
MATCHER = re.compile(r"(?P<c>\w+)/(?:(?P<node>[a-zA-Z0-9_-]+)/)?(?P<object>[a-zA-Z0-9_-]+)/config")
NAMES = st.from_regex(r"\A[A-Za-z0-9._-]{1,64}\Z")
TOPICS = GatewayTopics("gatewayd/barn")


@given(st.sets(NAMES | st.text("a._", min_size=1, max_size=4), max_size=30))
@example({"gateway", "a.b", "a_b", "a..", "a__", "a._"})
def test_any_names_have_legal_and_distinct_object_ids(names: set[str]) -> None:
    ids = object_ids(names)
    assert ids.keys() == names
    assert len({*ids.values(), "gateway"}) == len(names) + 1
    assert all(re.fullmatch("[a-zA-Z0-9_-]+", one) for one in ids.values())
    assert all(ids[name] == name for name in names if "." not in name and name != "gateway")
    assert object_ids(sorted(names, reverse=True)) == ids


def test_a_dot_becomes_an_underscore_unless_another_device_has_that_name() -> None:
    assert object_ids(["pump.1", "tag"]) == {"pump.1": "pump_1", "tag": "tag"}
    both = object_ids(["pump.1", "pump_1"])
    assert both["pump_1"] == "pump_1"
    assert re.fullmatch("pump_1_[0-9a-f]{6}", both["pump.1"])


@given(NAMES, NAMES)
@example("barn.1", "barn_1")
def test_each_gateway_has_a_legal_part_of_the_prefix(one: str, other: str) -> None:
    for gateway in (one, other):
        assert MATCHER.fullmatch(f"{discovery_root('ha', gateway)}/x/config".removeprefix("ha/"))
    assert (discovery_root("ha", one) == discovery_root("ha", other)) == (one == other)
    assert discovery_filter("ha/x", "barn") == "ha/x/device/barn/+/config"


def render(template: str, value: bytes) -> str:
    """Render as Home Assistant does: `value_json` is there if the message is JSON."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)  # noqa: S701 - nothing is escaped there either
    environment.filters["to_json"] = json.dumps
    variables: dict[str, Any] = {"value": value.decode()}
    with suppress(ValueError):
        variables["value_json"] = json.loads(value)
    return environment.from_string(template).render(variables)


def document(name: str | None = "pump-1", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Discovery(TOPICS, "barn", name, **more).to_bytes())
    return found


def shown(status: DeviceStatus) -> dict[str, Any]:
    """Return what the update entity makes of a status."""
    found: dict[str, Any] = json.loads(
        render(document()["cmps"]["update"]["value_template"], status.to_bytes())
    )
    return found


RUNNING = DeviceStatus("pump-1", "transferring", "pump", "4.3.1", "4.3.2", 42, reason="under way")


def test_progress_moves_only_while_something_is_under_way() -> None:
    assert shown(RUNNING) == {
        "installed_version": "4.3.1",
        "latest_version": "4.3.2",
        "in_progress": True,
        "update_percentage": 42,
        "release_summary": "under way",
    }
    for state in set(STATES) - {"transferring", "staged", "activating"}:
        found = shown(replace(RUNNING, state=state))
        assert (found["in_progress"], found["update_percentage"]) == (False, None), state


def test_a_summary_is_short_and_is_cleared() -> None:
    assert len(shown(replace(RUNNING, reason='"\n' * 500))["release_summary"]) == 255
    assert shown(replace(RUNNING, reason=None))["release_summary"] == ""
    assert shown(replace(RUNNING, latest_version=None))["latest_version"] == "4.3.1"


def test_nothing_is_said_of_a_version_that_is_unknown_or_of_a_status_that_was_emptied() -> None:
    update = document()["cmps"]["update"]["value_template"]
    assert render(update, b"") == ""
    assert render(update, DeviceStatus("pump-1", "unknown").to_bytes()) == ""


def test_a_refusal_is_a_problem_with_its_reason() -> None:
    problem = document()["cmps"]["problem"]
    for state in STATES:
        why: dict[str, Any] = {"code": "bad_signature", "reason": "the 'signature'"}
        why |= {"refused_version": "4.3.2", "refused_reason": None}
        status = replace(RUNNING, state=state, **why).to_bytes()
        is_one = state in ("failed", "refused", "unreachable")
        assert render(problem["value_template"], status) == ("ON" if is_one else "OFF")
        assert json.loads(render(problem["json_attributes_template"], status)) == why
    assert render(problem["value_template"], b"") == "OFF"
    assert render(problem["json_attributes_template"], b"") == "{}"


def test_an_unplugged_device_is_a_problem_also_while_an_update_waits_for_it() -> None:
    template = document()["cmps"]["problem"]["value_template"]
    for state, code, expected in (
        ("unreachable", "link_missing", "ON"),
        ("queued", "link_missing", "ON"),
        ("queued", "not_heard", "ON"),
        ("queued", "incomplete", "OFF"),  # it is tried again, and fails in the end
        ("queued", "paused", "OFF"),
        ("queued", None, "OFF"),
        ("transferring", None, "OFF"),
        ("offered", "link_missing", "OFF"),
    ):
        status = replace(RUNNING, state=state, code=code).to_bytes()
        assert render(template, status) == expected, (state, code)


def test_a_gateway_that_sleeps_is_available_and_connected() -> None:
    (availability,) = document()["avty"]
    connectivity = document(None)["cmps"]["connectivity"]
    assert availability["topic"] == connectivity["state_topic"] == "gatewayd/barn/status"
    for presence, is_online in (("online", True), ("sleeping", True), ("offline", False)):
        value = presence.encode()
        assert render(availability["value_template"], value) == ("online" if is_online else "offline")
        assert render(connectivity["value_template"], value) == ("ON" if is_online else "OFF")


def test_the_gateway_shows_its_version_and_a_refused_configuration() -> None:
    parts = document(None)["cmps"]
    status = GatewayStatus("1.0", NOW, NOW, "abc", "", {"idle": 1}, None, NOW)
    assert render(parts["version"]["value_template"], status.to_bytes()) == "1.0"
    for key, change, attributes in (
        ("config_refused", {"config_refused": 'line "3"'}, {"reason": 'line "3"'}),
        ("trouble", {"trouble": {"code": "disk_full", "reason": "x"}}, {"code": "disk_full", "reason": "x"}),
    ):
        assert render(parts[key]["value_template"], status.to_bytes()) == "OFF"
        bad = replace(status, **change).to_bytes()
        assert render(parts[key]["value_template"], bad) == "ON"
        assert json.loads(render(parts[key]["json_attributes_template"], bad)) == attributes
    assert "availability" not in parts["connectivity"]
    assert all(parts[key]["availability"] for key in parts if key != "connectivity")
    assert "avty" not in document(None)


def test_the_button_sends_what_is_on_offer_and_is_not_retained() -> None:
    update = document(offered="4.3.2")["cmps"]["update"]
    assert update["command_topic"] == "gatewayd/barn/devices/pump-1/install"
    assert (update["payload_install"], update["qos"], update["retain"]) == ("4.3.2", 1, False)
    assert not {"command_topic", "payload_install"} & document()["cmps"]["update"].keys()


def test_each_entity_has_an_identifier_of_its_own() -> None:
    documents = [document(None), document("a"), document("a.b"), document("a_b")]
    entities = [part["unique_id"] for one in documents for part in one["cmps"].values()]
    assert len(set(entities)) == len(entities)
    assert len({one["dev"]["ids"][0] for one in documents}) == len(documents)
    assert documents[1]["dev"]["via_device"] == documents[0]["dev"]["ids"][0]


def test_each_device_and_the_gateway_are_wanted_and_nothing_while_it_is_off() -> None:
    settings = some_settings(a_device(), a_device(name="pump.2"))
    board = StatusBoard(lambda: NOW)
    assert discoveries(settings, board) == {}
    mqtt = settings.mqtt.model_copy(update={"home_assistant": HomeAssistant(prefix="ha")})
    settings = settings.model_copy(update={"mqtt": mqtt})
    board.update("pump.2", installed_version="4.3.1", latest_version="4.3.2")
    found = discoveries(settings, board)
    root = f"ha/device/{settings.gateway.id}"
    assert found.keys() == {f"{root}/{one}/config" for one in ("gateway", "pump-1", "pump_2")}
    assert found[f"{root}/pump_2/config"].offered == "4.3.2"
    board.update("pump.2", state="transferring", progress=3)
    assert discoveries(settings, board) == found
    board.update("pump.2", state="refused")
    assert discoveries(settings, board)[f"{root}/pump_2/config"].offered is None
