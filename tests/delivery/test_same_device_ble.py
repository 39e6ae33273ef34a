"""That a job goes on with the device that it began with, by what tells devices apart."""

from typing import Any

import pytest
from bleak.backends.device import BLEDevice
from lab.bumble_radio import OLD_DEVICE
from lab.jobs import a_device, a_job, an_info

from gatewayd.delivery.admission import check_is_begun_with
from gatewayd.errors import DeviceError
from gatewayd.link.bluetooth import lasting_address

HERE, THERE = "C0:FF:EE:00:00:01", "C0:FF:EE:00:00:02"
IMAGE = "ab" * 32
RADIO = {"ble": {"name": "pump-1"}}
FIXED = {"ble": {"address": HERE}}
HAS_IT = {"running_sha256": bytes.fromhex(IMAGE)}
TRIED_IT = {"tried_sha256": bytes.fromhex(IMAGE)}


@pytest.mark.parametrize(
    ("link", "began", "says", "peer", "is_same"),
    [
        (None, {"device_id": "1"}, {"device_id": "1"}, None, True),
        (None, {"device_id": "1"}, {"device_id": "2"}, None, False),
        (
            None,
            {"device_id": "1"},
            {"device_id": "2"} | HAS_IT,
            None,
            True,
        ),  # it changed what it calls itself
        (None, {"device_id": "1"}, {}, None, True),
        (None, {}, {}, None, True),
        (FIXED, {"peer": HERE}, {}, HERE, True),
        (RADIO, {"peer": HERE}, {}, HERE, True),
        (RADIO, {"peer": HERE}, {}, THERE, False),
        (RADIO, {"peer": HERE}, HAS_IT, THERE, True),
        (RADIO, {"peer": HERE}, TRIED_IT, THERE, True),
        (RADIO, {"peer": HERE, "device_id": "1"}, {"device_id": "1"}, THERE, True),
        (RADIO, {"peer": HERE, "device_id": "1"}, {"device_id": "2"} | HAS_IT, THERE, False),
        (RADIO, {"peer": HERE, "device_id": "1"}, {"device_id": "2"}, HERE, False),
        (RADIO, {"boot_id": 7}, {"boot_id": 7}, None, True),
        (RADIO, {"boot_id": 7}, {"boot_id": 8}, None, False),
        (RADIO, {"boot_id": 7, "image_sha256": ""}, {"boot_id": 8}, None, True),  # nothing offered yet
    ],
)
def test_it_is_the_one_that_the_job_began_with(
    link: dict[str, Any] | None, began: dict[str, Any], says: dict[str, Any], peer: str | None, is_same: bool
) -> None:
    device = a_device(link=link or {"uart": "/nowhere/pump-1"})
    job = a_job(**{"image_sha256": IMAGE, "boot_id": 7} | began)
    info = an_info(**{"boot_id": 8, "device_id": None} | says)
    if is_same:
        check_is_begun_with(device, job, info, peer)
        return
    with pytest.raises(DeviceError, match="another device answers") as raised:
        check_is_begun_with(device, job, info, peer)
    assert raised.value.code == "device_changed"


@pytest.mark.parametrize(
    ("address", "kind", "lasts"),
    [
        ("C0:FF:EE:00:00:01", "random", True),
        ("5C:FF:EE:00:00:01", "random", False),
        ("1C:FF:EE:00:00:01", "random", False),
        ("5C:FF:EE:00:00:01", "public", True),
        ("5C:FF:EE:00:00:01", None, True),
    ],
)
def test_only_some_addresses_last(address: str, kind: str | None, lasts: bool) -> None:
    details: Any = {"path": "/org/bluez/x", "props": {"AddressType": kind}} if kind else None
    device = BLEDevice(address, "tag", details, **OLD_DEVICE)
    assert lasting_address(device) == (address if lasts else None)
