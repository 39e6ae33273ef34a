"""Each kind of bad device alone: what the status says at 2 a.m."""

import random
import signal

import pytest
from lab.farm import Farm

attack = pytest.mark.attack
IMAGE = random.Random(3).randbytes(30_000)
# What ends it, and words that the reason has.
ENDS = {
    "silent": ("no_answer", "not a byte came"),
    "noise": ("garbled", "no frame among them (is the speed right?"),
    "noise-without-zeros": ("garbled", "no frame among them"),
    "zeros": ("garbled", "no frame among them"),
    "short": ("garbled", "no frame among them"),
    "prints": ("only_text", "prints text and does not answer, "),
    "echoes": ("echo", "what is sent comes back (are TX and RX joined"),
    "dribbles": ("incomplete", "too few for any answer"),
    "giants": ("garbled", "no frame among them"),
    "tags": ("malformed", "tag 0x10 says 255 bytes"),
    "claims": ("bad_offset", "credit 4294967295"),
    "beyond": ("bad_offset", "received 20000"),
    "backwards": ("backwards", "said that it has 4096 bytes"),
}


@attack("silence", "no_answer")
@attack("noise, zeros, short runs, giant frames", "garbled")
@attack("text instead of answers", "only_text")
@attack("what is sent comes back", "echo")
@attack("one byte a second instead of an answer", "incomplete")
@attack("a length that is longer than its frame", "malformed")
@attack("every number as large as it can be, offsets past the end", "bad_offset")
@attack("offsets that go backwards", "backwards")
async def test_each_ends_with_a_reason_that_names_port_and_next_step(farm: Farm) -> None:
    gateway = farm.gateway
    devices = {kind: farm.device(kind, kind) for kind in ENDS}
    gateway.config["devices"] = [device.config(attempts=1) for device in devices.values()]
    gateway.start()
    gateway.publish(gateway.pack(IMAGE), "4.3.2")
    for kind, (code, words) in ENDS.items():
        status = await gateway.until_state(kind, "failed")
        assert (kind, status["code"]) == (kind, code)
        reason = status["reason"]
        assert reason.startswith(f"{devices[kind].port}: ")
        assert words in reason
        assert reason.endswith(")"), "the next step stands in parentheses"


@attack("restarts in every transfer", "keeps_restarting")
async def test_a_device_that_restarts_and_stores_nothing_fails_by_its_restarts(farm: Farm) -> None:
    device = farm.device("pump-1", "restarts", every_s=1, rate=11_520, erase_block=1 << 17, quiet=True)
    gateway = farm.gateway
    gateway.config["devices"] = [device.config(attempts=1)]
    gateway.start()
    gateway.publish(gateway.pack(IMAGE * 2), "4.3.2")
    status = await gateway.until_state("pump-1", "failed", code="keeps_restarting")
    assert "stored nothing new in between (look at its power supply" in status["reason"]


async def test_a_device_that_restarts_and_stores_what_it_gets_comes_through(farm: Farm) -> None:
    device = farm.device("pump-1", "restarts", every_s=1, rate=40_000, quiet=True)
    gateway = farm.gateway
    gateway.config["devices"] = [device.config(attempts=1)]
    gateway.start()
    gateway.publish(gateway.pack(IMAGE * 4), "4.3.2")
    status = await gateway.until_state("pump-1", "succeeded", installed_version="4.3.2")
    assert device.active == IMAGE * 4
    assert status["attempt"] == 1
    assert len(gateway.log_events("transfer")) > 1


@attack("another board on the port", "wrong_app")
@pytest.mark.parametrize("neighbour", [True, False])
async def test_another_application_on_the_port_is_named(farm: Farm, *, neighbour: bool) -> None:
    device = farm.device("pump-1", "c", app_id="fan")
    gateway = farm.gateway
    gateway.config["devices"] = [device.config() | {"app_id": "pump"}]
    if neighbour:
        gateway.config["keys"]["k"]["allow_shared_key"] = True
        fan = farm.device("fan-1", "c", app_id="pump")
        gateway.config["devices"].append(fan.config() | {"app_id": "fan"})
    gateway.start()
    gateway.publish(gateway.pack(IMAGE), "4.3.2")
    status = await gateway.until_state("pump-1", "failed", code="wrong_app")
    assert str(device.port) in status["reason"]
    assert ("it looks like fan-1: are the boards swapped?" in status["reason"]) is neighbour
    assert device.active is None


@attack("a port that vanishes in every transfer", "keeps_vanishing")
async def test_a_port_that_vanishes_with_each_restart_does_not_wear_the_flash_for_ever(farm: Farm) -> None:
    device = farm.device("pump-1", "c", rate=40_000, erase_block=1 << 17, quiet=True)
    gateway = farm.gateway
    gateway.config["devices"] = [device.config(attempts=2)]

    async def lose_it(times: int) -> None:
        await gateway.until(lambda: len(gateway.log_events("transfer")) == times, f"transfer {times}")
        device.stop(signal.SIGKILL)
        ends = ("attempt failed", "job failed")
        await gateway.until(lambda: sum(len(gateway.log_events(end)) for end in ends) >= times, "noticed")
        device.start()

    gateway.start()
    gateway.publish(gateway.pack(IMAGE * 4), "4.3.2")
    await lose_it(1)
    await lose_it(2)
    status = await gateway.until_state("pump-1", "failed", code="keeps_vanishing")
    assert "(look at the cable, the hub" in status["reason"]
    # That it is back, restarted, is no reason to begin again; a newer release is.
    await gateway.until(lambda: len(gateway.log_events("port is here")) == 2, "the port is back")
    gateway.publish(gateway.pack(IMAGE), "4.3.3")
    await gateway.until_state("pump-1", "succeeded", installed_version="4.3.3")
    assert len(gateway.log_events("transfer")) == 3
