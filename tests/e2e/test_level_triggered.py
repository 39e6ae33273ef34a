"""Whatever makes an update possible leads to it, with nothing published again."""

import random
import shutil
import signal

from lab.farm import KEY, Farm

from gatewayd.ota.keys import OtaKey

IMAGE = random.Random(3).randbytes(30_000)
# In place of most of a minute, until it is clear that the broker has no memory.
QUICK = "import gatewayd.mqtt.retained_check as check; check.SETTLE_S = 0.4; check.ASK_AGAIN_S = (0.3, 0.3)"


async def test_a_device_added_later_gets_what_is_in_the_spool(farm: Farm) -> None:
    gateway = farm.gateway
    gateway.preset = QUICK
    first, second = farm.device("pump-1"), farm.device("pump-2")
    gateway.config["devices"] = [first.config()]
    gateway.start()
    gateway.publish(gateway.pack(IMAGE), "4.3.2")
    await gateway.until_state("pump-1", "succeeded")
    assert gateway.stop() == 0
    gateway.broker.kill()
    gateway.broker.start()  # it has no memory, which is no withdrawal
    gateway.config["devices"].append(second.config())
    gateway.start()
    await gateway.until_state("pump-2", "succeeded")
    assert second.active == IMAGE


async def test_a_spare_board_with_old_firmware_is_updated(farm: Farm) -> None:
    gateway = farm.gateway
    device = farm.device("pump-1")
    gateway.config["devices"] = [device.config()]
    gateway.start()
    gateway.publish(gateway.pack(IMAGE), "4.3.2")
    await gateway.until_state("pump-1", "succeeded", installed_version="4.3.2")
    device.stop()
    shutil.rmtree(device.state)
    device.start()
    await gateway.until(lambda: len(gateway.log_events("job made")) == 2, "another job")
    await gateway.until_state("pump-1", "succeeded", installed_version="4.3.2")
    assert device.active == IMAGE


async def test_a_corrected_key_leads_to_the_update(farm: Farm) -> None:
    gateway = farm.gateway
    device = farm.device("pump-1")
    gateway.config["devices"] = [device.config()]
    wrong = OtaKey(bytes(32), bytes(range(32, 64)))
    gateway.write_keys(wrong.decrypt_key, wrong.verify_key)
    gateway.start()
    container = gateway.pack(IMAGE)
    gateway.publish(container, "4.3.2")
    status = await gateway.until_state("pump-1", "refused")
    assert status["code"] == "bad_signature"
    assert gateway.stop() == 0
    gateway.write_keys(KEY.decrypt_key, KEY.verify_key)
    gateway.start()
    await gateway.until_state("pump-1", "succeeded", installed_version="4.3.2")
    assert device.active == IMAGE


async def test_a_corrected_key_leads_to_the_update_where_the_message_was_too_large_to_keep(
    farm: Farm,
) -> None:
    gateway = farm.gateway
    device = farm.device("pump-1", slot_size=1 << 21)
    gateway.config["devices"] = [device.config()]
    wrong = OtaKey(bytes(32), bytes(range(32, 64)))
    gateway.write_keys(wrong.decrypt_key, wrong.verify_key)
    gateway.start()
    image = random.Random(4).randbytes(600_000)
    gateway.publish(gateway.pack(image), "4.3.2")
    status = await gateway.until_state("pump-1", "refused")
    assert status["code"] == "bad_signature"
    assert "not kept" in status["reason"]
    assert not list((farm.folder / "state" / "spool").glob("[0-9a-f]*"))
    gateway.write_keys(KEY.decrypt_key, KEY.verify_key)
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGHUP)
    await gateway.until_state("pump-1", "succeeded", installed_version="4.3.2")
    assert device.active == image


async def test_a_line_in_the_configuration_leads_to_the_next_minor(farm: Farm) -> None:
    gateway = farm.gateway
    device = farm.device("pump-1")
    gateway.config["devices"] = [device.config()]
    gateway.start()
    gateway.publish(gateway.pack(IMAGE), "4.3.2")
    await gateway.until_state("pump-1", "succeeded", installed_version="4.3.2")
    gateway.publish(gateway.pack(IMAGE[::-1]), "4.4.0")
    gateway.config["devices"][0]["line"] = "4.4"
    gateway.write()
    gateway.ctl("--socket", gateway.folder / "control.sock", "reload")
    await gateway.until_state("pump-1", "succeeded", installed_version="4.4.0")
    assert device.active == IMAGE[::-1]
    del gateway.config["devices"][0]["line"]
    gateway.write()
    gateway.ctl("--socket", gateway.folder / "control.sock", "reload")
    gateway.publish(gateway.pack(IMAGE), "4.4.1")
    await gateway.until_state("pump-1", "succeeded", installed_version="4.4.1")


async def test_boards_swapped_on_two_ports_are_refused_by_name(farm: Farm) -> None:
    gateway = farm.gateway
    pump, tank = farm.device("pump-1", app_id="tank"), farm.device("tank-1", app_id="pump")
    gateway.config["devices"] = [pump.config(app_id="pump"), tank.config(app_id="tank")]
    gateway.config["keys"]["k"]["allow_shared_key"] = True
    gateway.start()
    await gateway.until_state("pump-1", "unreachable", code="wrong_app")
    gateway.publish(gateway.pack(IMAGE), "4.3.2", "pump")
    status = await gateway.until_state("pump-1", "failed", code="wrong_app")
    assert "'tank'" in status["reason"]
    assert "tank-1" in status["reason"]
    assert pump.active is None
    assert tank.active is None


async def test_one_message_for_several_devices_makes_one_image_and_independent_jobs(farm: Farm) -> None:
    gateway = farm.gateway
    devices = [farm.device(f"pump-{number}") for number in range(1, 4)]
    gateway.config["devices"] = [device.config() for device in devices]
    silent = devices[0].config() | {"name": "silent", "attempts": 1}
    gateway.config["devices"].append(silent | {"link": {"uart": str(farm.folder / "nothing-here")}})
    gateway.start()
    container = gateway.pack(IMAGE)
    gateway.publish(container, "4.3.2")
    for device in devices:
        await gateway.until_state(device.name, "succeeded", installed_version="4.3.2")
        assert device.active == IMAGE
    await gateway.until_state("silent", "queued", code="link_missing")
    assert len(list((farm.folder / "state" / "spool").glob("[0-9a-f]*"))) == 1
    made = len(gateway.log_events("job made"))
    for _ in range(3):
        gateway.publish(container, "4.3.2")  # replayed
    gateway.stop()
    replays = len(gateway.log_events("release is already here"))
    gateway.start()  # and delivered again as retained
    await gateway.until(lambda: len(gateway.log_events("release is already here")) > replays, "once more")
    await gateway.until_state("pump-3", "succeeded")
    assert len(gateway.log_events("job made")) == made


async def test_a_withdrawn_release_ends_what_waits_for_it(farm: Farm) -> None:
    gateway = farm.gateway
    device = farm.device("pump-1")
    gateway.config["devices"] = [device.config(install="manual")]
    gateway.start()
    gateway.publish(gateway.pack(IMAGE), "4.3.2")
    await gateway.until_state("pump-1", "offered", latest_version="4.3.2")
    await gateway.send("/a/pump/u/4.3", b"")
    await gateway.until_state("pump-1", "idle", code="no_release")
    assert device.active is None


async def test_a_newer_release_supersedes_one_that_waits(farm: Farm) -> None:
    gateway = farm.gateway
    device = farm.device("pump-1")
    device.stop()
    gateway.config["devices"] = [device.config()]
    gateway.start()
    gateway.publish(gateway.pack(b"x" * 5000), "4.3.2")
    await gateway.until_state("pump-1", "queued", latest_version="4.3.2")
    gateway.publish(gateway.pack(IMAGE), "4.3.3")
    await gateway.until_state("pump-1", "queued", latest_version="4.3.3")
    device.start()
    await gateway.until_state("pump-1", "succeeded", installed_version="4.3.3")
    assert device.active == IMAGE
    assert [entry["state"] for entry in gateway.log_events("job ended")] == ["superseded"]


async def test_with_qos_0_signed_firmware_is_taken_and_other_refused_at_the_device(farm: Farm) -> None:
    gateway = farm.gateway
    device = farm.device("pump-1")
    gateway.config["devices"] = [device.config()]
    gateway.start()
    await gateway.until_state("pump-1", "idle")
    unsigned = b"\x02" + gateway.pack(IMAGE, "--no-sign").read_bytes()
    await gateway.send("/a/pump/u/4.3", unsigned, qos=0)
    await gateway.until_state("pump-1", "refused", code="qos0")
    await gateway.send("/a/pump/u/4.3", b"\x02" + gateway.pack(IMAGE).read_bytes(), qos=0)
    await gateway.until_state("pump-1", "succeeded", installed_version="4.3.2")
    assert device.active == IMAGE
    assert len(gateway.log_events("signed firmware came with QoS 0 and is taken")) == 1
