"""The main job, with everything real: mosquitto, the daemon's process, virtual devices on ptys."""

import hashlib
import random
import re

import pytest
from lab.farm import RECEIVERS, Farm, copy_sming_keys, sming_vectors

pytestmark = pytest.mark.daemon

IMAGE = random.Random(1).randbytes(60_000)


@pytest.mark.parametrize("receiver", RECEIVERS)
async def test_an_update_from_message_to_confirmed_device(farm: Farm, receiver: str) -> None:
    device = farm.device("pump-1", receiver, slot_address=0x2000)
    gateway = farm.gateway
    gateway.config["devices"] = [device.config()]
    gateway.start()
    await gateway.until_state("pump-1", "idle", installed_version="4.3.1")
    gateway.publish(gateway.pack(IMAGE), "4.3.2")
    status = await gateway.until_state("pump-1", "succeeded")
    assert status["installed_version"] == status["latest_version"] == "4.3.2"
    assert status["progress"] == 100
    assert device.active == IMAGE
    assert gateway.gateway_status == "online"
    assert gateway.stop() == 0
    await gateway.until(lambda: gateway.gateway_status == "offline", "offline")


async def test_all_of_smings_containers_reach_the_device_byte_for_byte(farm: Farm) -> None:
    gateway = farm.gateway
    copy_sming_keys(farm.folder)
    wanted, devices = {}, []
    for file, entry, message in sming_vectors():
        for number, rom in enumerate(entry["roms"]):
            name = f"{re.sub('[^a-z]', '-', file)}-{number}"
            app = file.split(".")[0]
            device = farm.device(name, "c", app_id=app, version="4.3.0", slot_address=rom["address"])
            devices.append(device.config(allow_unsigned=not entry["signed"]))
            wanted[name] = (device, rom["sha256"], f"4.3.{entry['patch']}")
            await gateway.send(f"/a/{app}/u/4.3", message)
    gateway.config["devices"] = devices
    gateway.config["keys"]["k"]["allow_shared_key"] = True
    gateway.start()
    for name, (device, sha256, version) in wanted.items():
        await gateway.until_state(name, "succeeded", installed_version=version)
        assert hashlib.sha256(device.active or b"").hexdigest() == sha256


@pytest.mark.parametrize(
    "options", [(), ("--no-sign",), ("--no-encrypt",), ("--no-sign", "--no-encrypt")], ids=" ".join
)
async def test_our_own_containers_reach_the_device_byte_for_byte(
    farm: Farm, options: tuple[str, ...]
) -> None:
    device = farm.device("pump-1", "c", slot_address=0x2000)
    gateway = farm.gateway
    gateway.config["devices"] = [device.config(allow_unsigned=True)]
    gateway.start()
    gateway.publish(gateway.pack(IMAGE, *options), "4.3.300")
    await gateway.until_state("pump-1", "succeeded", installed_version="4.3.300")
    assert device.active == IMAGE
