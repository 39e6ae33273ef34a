"""`gatewayctl fleet status` at a real mosquitto: what is retained, what is made of it, and that it ends."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiomqtt import ProtocolVersion
from lab.brokers import Mosquitto, ScriptedBroker, amqtt_broker, packet, text
from lab.containers import Ran, gatewayctl
from lab.control_schema import check_printed

from gatewayd.config import load
from gatewayd.errors import GatewaydError
from gatewayd.fleet import status
from gatewayd.fleet.status import PAYLOAD_LIMIT_BYTES, QUIET_S, DeviceReport, FleetStatus, judge, read_fleet
from gatewayd.mqtt.connection import Connection, Delivery, connect
from gatewayd.mqtt.login import Login
from gatewayd.mqtt.topics import FleetPlace
from gatewayd.status.board import DeviceStatus

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("mosquitto")) as broker:
        yield broker


def configured(folder: Path, port: int, **mqtt: Any) -> Path:
    file = folder / "config.yaml"
    tree = {"mqtt": {"host": "127.0.0.1", "port": port} | mqtt, "devices": [], "gateway": {"id": "desk"}}
    file.write_text(json.dumps(tree))
    return file


async def retain(port: int, messages: Mapping[str, bytes]) -> None:
    connection = await connect(Login("127.0.0.1", port, "publisher"), ProtocolVersion.V311)
    for topic, payload in messages.items():
        await connection.publish(topic, payload, retain=True)
    await connection.close()


def report(state: str, **values: Any) -> bytes:
    return DeviceStatus("x", state, **{"app_id": "pump", "installed_version": "4.3.1"} | values).to_bytes()


async def read(folder: Path, port: int, messages: Mapping[str, bytes], **options: Any) -> FleetStatus:
    """Publish under a root of the test's own, and read it back."""
    root = folder.name
    await retain(port, {f"{root}/{topic}": payload for topic, payload in messages.items()})
    settings = load(configured(folder, port, status_topic=f"{root}/{{gateway_id}}"))
    return await read_fleet(settings, quiet_s=QUIET_S, **options)


FLEET = {
    "barn/status": b"online",
    "barn/devices/pump-1": report("succeeded", installed_version="4.3.2"),
    "barn/devices/pump-2": report(
        "failed",
        latest_version="4.3.2",
        code="bad_signature",
        reason="signed with another key",
        updated_at=datetime(2026, 11, 26, 8, 30, tzinfo=UTC),
    ),
    "barn/devices/tank-1": report("idle", app_id="tank", installed_version="2.0.7"),
    "barn/gateway": json.dumps(
        {"version": "1.1.0", "started_at": "2026-11-25T06:00:00Z", "config_refused": None, "trouble": None}
    ).encode(),
    "shed/status": b"offline",
    "shed/gateway": json.dumps(
        {"config_refused": "config.yaml:7: devices[0].link: is missing.", "later": "ignored"}
    ).encode(),
    "shed/devices/pump-1": report("queued", code="paused", paused=True),
    "yard/status": b"sleeping",
    "yard/devices/pump-1": report("offered"),
}


async def test_gateways_with_their_devices(tmp_path: Path, mosquitto: Mosquitto) -> None:
    found = await read(tmp_path, mosquitto.port, FLEET)
    assert [(one.name, one.status, len(one.devices)) for one in found.gateways] == [
        ("barn", "online", 3),
        ("shed", "offline", 1),
        ("yard", "sleeping", 1),
    ]
    (stuck,) = [one for gateway in found.gateways for one in gateway.devices if one.stuck]
    assert (stuck.name, stuck.code, stuck.reason) == ("pump-2", "bad_signature", "signed with another key")
    assert not found.ok
    barn, shed, yard = found.gateways
    assert (barn.version, barn.started_at) == ("1.1.0", datetime(2026, 11, 25, 6, tzinfo=UTC))
    assert shed.config_refused == "config.yaml:7: devices[0].link: is missing."
    assert yard == yard.model_copy(update={"version": None, "trouble": None})


@pytest.mark.parametrize("gateway", ["barn", "yard"])
async def test_one_gateway(tmp_path: Path, mosquitto: Mosquitto, gateway: str) -> None:
    found = await read(tmp_path, mosquitto.port, FLEET, gateway=gateway)
    assert [one.name for one in found.gateways] == [gateway]
    assert found.ok is (gateway == "yard")


@pytest.mark.parametrize(
    ("report", "is_ok", "problem"),
    [
        ({"version": "1.1.0"}, True, ""),
        ({"config_refused": "why"}, False, "the configuration on disk is refused: why"),
        ({"trouble": {"code": "disk_full", "reason": "full"}}, False, "disk_full: full"),
        ({"trouble": {"code": "x" * 65}}, False, "bad_report: no status: trouble.code: String should have"),
        ([], False, "bad_report: no status: it: Input should be an object"),
    ],
)
def test_a_gateway_with_trouble_of_its_own_is_not_ok(report: Any, is_ok: bool, problem: str) -> None:
    found = judge(
        "broker",
        {
            FleetPlace("barn", "status"): b"online",
            FleetPlace("barn", "gateway"): json.dumps(report).encode(),
        },
        None,
    )
    assert found.ok is is_ok
    assert found.gateways[0].problem.startswith(problem)
    assert bool(found.gateways[0].problem) is bool(problem)


async def test_one_application(tmp_path: Path, mosquitto: Mosquitto) -> None:
    found = await read(tmp_path, mosquitto.port, FLEET, app="tank")
    assert [[device.name for device in one.devices] for one in found.gateways] == [["tank-1"]]
    assert found.ok


async def test_more_gateways_than_are_asked_for_at_once(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """More messages, too, than mosquitto queues at QoS 1."""
    count = 2 * status.BATCH + 3
    messages = {f"g{number}/status": b"online" for number in range(count)}
    messages |= {f"g{one}/devices/d{two}": report("idle") for one in range(count) for two in range(30)}
    found = await read(tmp_path, mosquitto.port, messages)
    assert [len(one.devices) for one in found.gateways] == [30] * count
    assert found.ok


async def test_no_message_is_lost_to_a_wait_that_ends(
    tmp_path: Path, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waits end before each batch; a `receive` that is cancelled then may have a message already."""
    cancelled = 0
    receive = Connection.receive

    async def receive_and_note(self: Connection) -> Delivery:
        nonlocal cancelled
        try:
            return await receive(self)
        except asyncio.CancelledError:
            cancelled += 1
            raise

    monkeypatch.setattr(Connection, "receive", receive_and_note)
    assert len((await read(tmp_path, mosquitto.port, FLEET)).gateways) == 3
    assert cancelled == 1  # at the end


async def test_what_was_cleared_is_gone(tmp_path: Path, mosquitto: Mosquitto) -> None:
    await read(tmp_path, mosquitto.port, FLEET)
    found = await read(tmp_path, mosquitto.port, {"barn/devices/tank-1": b"", "yard/status": b""})
    assert {one.name: len(one.devices) for one in found.gateways} == {"barn": 2, "shed": 1}


async def test_a_broker_without_mqtt_5(tmp_path: Path) -> None:
    async with amqtt_broker() as port:
        found = await read(tmp_path, port, FLEET)
    assert [len(one.devices) for one in found.gateways] == [3, 1, 1]


@pytest.mark.parametrize(
    ("template", "topic"),
    [
        ("site/{gateway_id}/state", "site/barn/state"),
        ("site/gw-{gateway_id}.x", "site/gw-barn.x"),
        ("{gateway_id}", "barn"),
        ("site/desk", "site/desk"),
    ],
)
async def test_topics_follow_the_template(
    tmp_path: Path, mosquitto: Mosquitto, template: str, topic: str
) -> None:
    root = tmp_path.name
    near = {f"{root}/{topic}x/status": b"online", f"{root}/x{topic}/devices/x": report("idle")}
    messages = {f"{root}/{topic}/status": b"online", f"{root}/{topic}/devices/pump-1": report("idle")} | near
    await retain(mosquitto.port, messages)
    file = configured(tmp_path, mosquitto.port, status_topic=f"{root}/{template}")
    found = await read_fleet(load(file), quiet_s=QUIET_S)
    name = "desk" if template == "site/desk" else "barn"
    assert [(one.name, len(one.devices)) for one in found.gateways if not one.name.endswith("x")] == [
        (name, 1)
    ]


# -- who is stuck


@pytest.mark.parametrize(
    ("values", "is_stuck"),
    [
        ({"state": "failed"}, True),
        ({"state": "refused"}, True),
        ({"state": "unreachable"}, True),
        ({"state": "queued", "code": "link_missing"}, True),
        ({"state": "queued"}, False),
        ({"state": "queued", "code": "paused", "paused": True}, False),
        ({"state": "offered"}, False),
        ({"state": "idle", "code": "no_release"}, False),
        ({"state": "transferring"}, False),
        ({"state": "a later version's"}, False),
    ],
)
def test_who_is_stuck(values: dict[str, Any], is_stuck: bool) -> None:
    assert DeviceReport(**values).is_stuck is is_stuck


# -- whatever is retained there


HOSTILE = {
    "not-json": b"{",
    "deep": b'{"state":' + b"[" * 5000,
    "no-state": b"{}",
    "list": b"[]",
    "number": b'{"state": 5}',
    "long": json.dumps({"state": "x" * 65}).encode(),
    "large": b'{"state":"idle","more":"' + b"x" * PAYLOAD_LIMIT_BYTES + b'"}',
    "huge": b"x" * 300_000,
    "no-time": b'{"state":"idle","updated_at":"0001-01-01T00:00:00+14:00"}',
    "bytes": b"\xff\x00",
}


@pytest.mark.attack("what is no status, retained where gateways report", "bad_report")
async def test_what_is_no_status_is_unreadable_and_stuck(tmp_path: Path, mosquitto: Mosquitto) -> None:
    messages = {f"barn/devices/{name}": payload for name, payload in HOSTILE.items()}
    found = await read(tmp_path, mosquitto.port, messages | {"barn/status": b"on\x1b[31m"})
    (gateway,) = found.gateways
    assert gateway.status == "unreadable"
    assert {one.name: (one.state, one.code, one.stuck) for one in gateway.devices} == dict.fromkeys(
        HOSTILE, ("unreadable", "bad_report", True)
    )
    assert all(one.reason is not None and len(one.reason) <= 200 for one in gateway.devices)


async def test_names_that_no_gateway_has_are_passed_over(tmp_path: Path, mosquitto: Mosquitto) -> None:
    odd = {"ba rn/status": b"online", "barn/devices/\u202e": report("idle"), "x" * 65 + "/status": b"online"}
    found = await read(tmp_path, mosquitto.port, FLEET | odd)
    assert {one.name for one in found.gateways} == {"barn", "shed", "yard"}
    assert sum(len(one.devices) for one in found.gateways) == 5


async def test_the_number_of_statuses_is_limited(
    tmp_path: Path, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "TOPICS_LIMIT", len(FLEET) - 1)
    with pytest.raises(GatewaydError, match=f"more than {len(FLEET) - 1} statuses") as caught:
        await read(tmp_path, mosquitto.port, FLEET)
    assert caught.value.code == "fleet_too_large"


def flooding(kind: str) -> ScriptedBroker:
    """A broker that repeats one status for ever, or says one more gateway every time."""

    async def send(peer: Any) -> None:
        number = 0
        with suppress(OSError):
            while not peer.writer.is_closing():
                number += kind == "new"
                topic = text(f"gatewayd/g{number}/status")
                peer.send(packet(3, topic + b"\0" + b"online"))
                await peer.writer.drain()
                await asyncio.sleep(0.01)

    tasks: list[asyncio.Task[None]] = []

    def subscribe(peer: Any, got: Any) -> None:
        count = got.body.count(b"gatewayd/")
        peer.send(packet(9, got.body[:2] + b"\0" + b"\0" * count))
        if not tasks:
            tasks.append(asyncio.create_task(send(peer)))

    return ScriptedBroker({8: subscribe, 14: lambda peer, _: peer.cut()})


async def test_a_fleet_that_never_falls_silent_is_read_all_the_same(tmp_path: Path) -> None:
    async with flooding("same") as broker:
        found = await read_fleet(load(configured(tmp_path, broker.port)), quiet_s=QUIET_S)
    assert [one.name for one in found.gateways] == ["g0"]


@pytest.mark.attack("statuses without an end", "fleet_too_large")
async def test_gateways_without_end_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "TIME_LIMIT_S", 2 * QUIET_S)
    async with flooding("new") as broker:
        with pytest.raises(GatewaydError, match="statuses still arrive after") as caught:
            await read_fleet(load(configured(tmp_path, broker.port)), quiet_s=QUIET_S)
    assert caught.value.code == "fleet_too_large"


async def test_nothing_retained_is_an_error_with_the_next_step(tmp_path: Path, mosquitto: Mosquitto) -> None:
    with pytest.raises(GatewaydError, match="nothing is retained on") as caught:
        await read(tmp_path, mosquitto.port, {}, gateway="nobody")
    assert caught.value.code == "no_reports"


async def test_a_refused_subscription_is_told(tmp_path: Path) -> None:
    refuse = ScriptedBroker({8: lambda peer, got: peer.send(packet(9, got.body[:2] + b"\0\x87"))})
    async with refuse as broker:
        with pytest.raises(GatewaydError) as caught:
            await read_fleet(load(configured(tmp_path, broker.port)), quiet_s=QUIET_S)
    assert caught.value.code == "subscription_refused"


# -- as a person or a script has it


def run(folder: Path, port: int, messages: Mapping[str, bytes], *words: str) -> Ran:
    root = folder.name
    asyncio.run(retain(port, {f"{root}/{topic}": payload for topic, payload in messages.items()}))
    file = configured(folder, port, status_topic=f"{root}/{{gateway_id}}")
    return gatewayctl("fleet", "status", "--config", str(file), "--wait", str(QUIET_S), *words)


def test_who_runs_what_and_who_is_stuck_and_why(tmp_path: Path, mosquitto: Mosquitto) -> None:
    ran = run(tmp_path, mosquitto.port, FLEET)
    assert (ran.exit_code, ran.err) == (1, "")
    assert ran.out.splitlines() == [
        "GATEWAY  STATUS    GATEWAYD  DEVICES  STATES",
        "barn     online    1.1.0     3        1 succeeded, 1 failed, 1 idle",
        "shed     offline   -         1        1 queued",
        "  the configuration on disk is refused: config.yaml:7: devices[0].link: is missing.",
        "yard     sleeping  -         1        1 offered",
        "",
        "APP   VERSION  DEVICES",
        "pump  4.3.1    3",
        "pump  4.3.2    1",
        "tank  2.0.7    1",
        "",
        "STUCK AT  DEVICE  INSTALLED  LATEST  STATE   SINCE",
        "barn      pump-2  4.3.1      4.3.2   failed  2026-11-26T08:30:00Z",
        "  bad_signature: signed with another key",
        "",
        f"3 gateways at 127.0.0.1:{mosquitto.port}: 1 online, 1 offline, 1 sleeping; 5 devices, 1 stuck",
    ]
    page = (Path(__file__).parent.parent.parent / "docs" / "fleet.md").read_text()
    assert ran.out.replace(f"127.0.0.1:{mosquitto.port}", "broker.example.com:1883") in page


def test_a_fleet_in_which_all_is_well_ends_with_0(tmp_path: Path, mosquitto: Mosquitto) -> None:
    ran = run(tmp_path, mosquitto.port, FLEET, "--gateway", "yard")
    assert (ran.exit_code, ran.err) == (0, "")
    assert "STUCK" not in ran.out


def test_json(tmp_path: Path, mosquitto: Mosquitto) -> None:
    ran = run(tmp_path, mosquitto.port, FLEET, "--json")
    assert ran.exit_code == 1
    document = check_printed("fleet status", ran.out)
    assert [gateway["status"] for gateway in document["gateways"]] == ["online", "offline", "sleeping"]
    assert document["gateways"][0]["devices"][1]["reason"] == "signed with another key"
    assert document["ok"] is False


@pytest.mark.attack("names and reasons that steer a terminal")
def test_nothing_retained_steers_the_terminal(tmp_path: Path, mosquitto: Mosquitto) -> None:
    hostile = "\x1b]0;owned\x07\x9b2J\r\n\u202e"
    device = report("failed", app_id=hostile, installed_version=hostile, code=hostile, reason=hostile)
    ran = run(tmp_path, mosquitto.port, {"barn/status": b"online", "barn/devices/pump-1": device})
    assert "owned" in ran.out
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", ran.out)


@pytest.mark.parametrize("name", ["a/b", "#", "+", ""])
def test_a_name_that_would_be_a_wildcard_is_a_usage_error(tmp_path: Path, name: str) -> None:
    assert gatewayctl("fleet", "status", "--config", str(tmp_path), "--gateway", name).exit_code == 2
