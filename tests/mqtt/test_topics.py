"""Topics are built and read in one place; a message finds its handler by its topic."""

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab.jobs import some_settings

from gatewayd.config import Settings
from gatewayd.errors import FirmwareError
from gatewayd.mqtt.connection import IncomingMessage
from gatewayd.mqtt.router import Route, Router
from gatewayd.mqtt.topics import FleetTopics, GatewayTopics, LastWill

ROOT = Path(__file__).parents[2]
names = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)


def settings_of(template: str = "gatewayd/{gateway_id}") -> Settings:
    settings = some_settings()
    return settings.model_copy(update={"mqtt": settings.mqtt.model_copy(update={"status_topic": template})})


def test_the_topics_of_a_gateway() -> None:
    topics = GatewayTopics.of(settings_of())
    assert topics.status == "gatewayd/barn/status"
    assert topics.gateway == "gatewayd/barn/gateway"
    assert topics.device("pump-1") == "gatewayd/barn/devices/pump-1"
    assert topics.every_device == "gatewayd/barn/devices/+"
    assert topics.will == LastWill("gatewayd/barn/status", b"offline")


@given(
    gateway=names,
    device=names,
    template=st.sampled_from(["gatewayd/{gateway_id}", "a/{gateway_id}-x/b", "{gateway_id}"]),
)
def test_what_a_gateway_builds_the_fleet_reads(gateway: str, device: str, template: str) -> None:
    settings = settings_of(template)
    fleet, topics = FleetTopics(settings, None), GatewayTopics.of(settings, gateway)
    assert fleet.parse(topics.status) == (gateway, "status", "")
    assert fleet.parse(topics.gateway) == (gateway, "gateway", "")
    assert fleet.parse(topics.device(device)) == (gateway, "device", device)
    assert fleet.parse(f"{topics.device(device)}/x") is None
    assert fleet.of(gateway) == topics


def test_of_one_gateway_nothing_else_is_read() -> None:
    fleet = FleetTopics(settings_of(), "barn")
    assert (fleet.statuses, fleet.reports) == ("gatewayd/barn/status", "gatewayd/barn/gateway")
    assert fleet.parse("gatewayd/barn/status") == ("barn", "status", "")
    assert fleet.parse("gatewayd/shed/status") is None
    assert FleetTopics(settings_of(), None).statuses == "gatewayd/+/status"
    assert FleetTopics(settings_of(), None).reports == "gatewayd/+/gateway"


async def test_a_message_goes_to_the_first_handler_that_reads_its_topic() -> None:
    got: list[tuple[str, str, bytes]] = []

    def route(name: str, prefix: str) -> Route[str]:
        async def handle(meant: str, message: IncomingMessage) -> None:
            got.append((name, meant, message.payload))

        return Route(
            f"{prefix}…",
            lambda topic: topic.removeprefix(prefix) if topic.startswith(prefix) else None,
            handle,
        )

    router = Router([route("firmware", "a/"), route("install", "g/")])
    await router.accept(IncomingMessage("g/pump", b"1", 1, retain=False))
    await router.accept(IncomingMessage("a/", b"2", 1, retain=False))
    assert got == [("install", "pump", b"1"), ("firmware", "", b"2")]
    with pytest.raises(FirmwareError, match="does not have the form a/… or g/…") as raised:
        await router.accept(IncomingMessage("elsewhere", b"", 1, retain=False))
    assert raised.value.code == "not_ours"


def test_no_other_file_writes_a_status_topic_or_what_stands_there() -> None:
    """Of the rooms that have to do with them; what `gatewayctl fleet status` prints is its own."""
    written = re.compile(r".*/(status|devices/?)|online|offline|sleeping")
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for room in ("mqtt", "doctor", "status", "config", "control")
        for path in (ROOT / "gatewayd" / room).rglob("*.py")
        if path.name != "topics.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and written.fullmatch(str(node.value).strip("b'"))
    ]
    assert found == []
