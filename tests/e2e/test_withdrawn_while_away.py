"""A withdrawal of which the gateway hears nothing, and a broker that lost its memory, at a real mosquitto."""

import json
import re
import shutil
import sqlite3
from contextlib import closing

import aiomqtt
from lab.farm import Farm, image_of
from lab.history import Activated, Committed, Emptied, Event, Looked, Published, Suspended, judge

TOPIC = "/a/pump/u/4.3"
IMAGE = image_of(7, 20_000)
# In place of a minute; what is retained has come within a second on a busy machine, too.
QUICK = "import gatewayd.mqtt.retained_check as check; check.SETTLE_S = 1.5; check.ASK_AGAIN_S = (0.3, 0.3)"


async def updated(farm: Farm) -> None:
    """Bring pump-1 to 4.3.2, and wait until the broker has the marker; then the gateway is off."""
    gateway = farm.gateway
    gateway.preset = QUICK
    gateway.config["devices"] = [farm.device("pump-1").config()]
    gateway.start()
    gateway.publish(gateway.pack(IMAGE), "4.3.2")
    await gateway.until_state("pump-1", "succeeded", installed_version="4.3.2")
    async with aiomqtt.Client("127.0.0.1", gateway.broker.port) as client:
        await client.subscribe("gatewayd/barn/marker", qos=1)
        assert b"sequence" in (await anext(aiter(client.messages))).payload
    assert gateway.stop() == 0


async def spare_board(farm: Farm) -> None:
    """Put a new board, with the firmware it left the factory with, in place of pump-1."""
    device = farm.devices[0]
    device.stop()
    shutil.rmtree(device.state)
    device.start()
    farm.gateway.start()


def history(farm: Farm, *events: Event) -> list[Event]:
    """What was seen: `events`, what the daemon said to have suspended, what the device ran, the store."""
    with closing(sqlite3.connect(farm.folder / "state" / "gatewayd.db")) as database:
        messages = [str(row[0]) for row in database.execute("SELECT sha256 FROM releases")]
    log = (farm.folder / "gatewayd.log").read_text()
    suspended = re.findall(r'"suspended: the broker no longer has these messages"', log)
    seen: list[Event] = [*events, *[Suspended(TOPIC) for _ in suspended]]
    if farm.devices[0].active is not None:
        seen.append(Activated("pump-1", "4.3.2"))
    return [*seen, Looked(frozenset(messages), ())]


def published(farm: Farm) -> list[Event]:
    with closing(sqlite3.connect(farm.folder / "state" / "gatewayd.db")) as database:
        ((message,),) = database.execute("SELECT sha256 FROM releases").fetchall()
    return [Published(message, TOPIC, "4.3.2", "", frozenset({"pump-1"})), Committed(message)]


async def test_a_spare_board_does_not_get_what_was_withdrawn_while_the_gateway_was_off(farm: Farm) -> None:
    gateway = farm.gateway
    await updated(farm)
    events = published(farm)
    await gateway.send(TOPIC, b"", qos=0)  # as tools do: nothing waits for the gateway then
    await spare_board(farm)
    status = await gateway.until_state("pump-1", "refused", code="not_at_broker")
    assert "4.3.2" in status["reason"]
    assert farm.devices[0].active is None
    assert not [job for job in gateway.jobs()[1:] if job[2] != "cancelled"]
    assert not judge(history(farm, *events, Emptied(TOPIC)))
    (release,) = json.loads(
        gateway.ctl("explain", "--suspended", "--socket", "control.sock", "--json").stdout
    )["releases"]
    assert (release["topic"], release["version"], release["code"]) == (TOPIC, "4.3.2", "not_at_broker")
    assert release["devices"] == ["pump-1"]
    assert "4.3.2" in gateway.ctl("explain", "--suspended", "--socket", "control.sock").stdout
    # A restart does not forget it, and published again it goes on.
    assert gateway.stop() == 0
    gateway.start()
    await gateway.until_state("pump-1", "refused", code="not_at_broker")
    gateway.publish(farm.folder / "firmware.ota", "4.3.2")
    await gateway.until(lambda: farm.devices[0].active == IMAGE, "the update")
    await gateway.until_state("pump-1", "succeeded", installed_version="4.3.2")


async def test_a_broker_that_lost_its_memory_withdraws_nothing(farm: Farm) -> None:
    gateway = farm.gateway
    await updated(farm)
    events = published(farm)
    gateway.broker.kill()  # without persistence, so all that was retained is gone, our marker too
    gateway.broker.start()
    await spare_board(farm)
    await gateway.until(lambda: farm.devices[0].active == IMAGE, "the update")
    await gateway.until_state("pump-1", "succeeded", installed_version="4.3.2")
    assert not gateway.log_events("suspended: the broker no longer has these messages")
    assert not judge(history(farm, *events))


async def test_an_empty_message_that_waited_withdraws_as_ever(farm: Farm) -> None:
    gateway = farm.gateway
    await updated(farm)
    gateway.ctl("withdraw", "--config", "config.yaml", "--app", "pump", "--line", "4.3")
    await spare_board(farm)
    await gateway.until(lambda: gateway.log_events("release withdrawn"), "the withdrawal")
    await gateway.until_state("pump-1", "idle", code="no_release")
    assert farm.devices[0].active is None
