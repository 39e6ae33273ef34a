"""Scanning a virtual radio: who is listed, who is asked, and what can be pasted."""

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import jsonschema
import pytest
import yaml
from bleak.exc import BleakError
from lab.ble_device import PythonTag, Tag
from lab.bumble_radio import Air, BumbleBackend
from lab.jobs import timeless
from lab.smp.tag import ORDINARY, SmpTag

from gatewayd.cli import local_devices
from gatewayd.cli.ctl import cli
from gatewayd.cli.local_devices import LocalDevices
from gatewayd.cli.scan_yaml import ble_to_yaml
from gatewayd.config import BleTarget, ConfigErrors, load
from gatewayd.errors import LinkError
from gatewayd.link.radio import Radio
from gatewayd.link.target import Target
from gatewayd.protocol.rcp.kind import GATT
from gatewayd.scan import ble
from gatewayd.scan.answers import Answer
from gatewayd.scan.ble import BleReport, HeardDevice, Ours, scan_ble
from gatewayd.simulator.profile import DeviceProfile

FIRST, SECOND, THIRD = (f"C0:FF:EE:00:00:0{n}" for n in range(1, 4))
PROFILE = DeviceProfile(app_id="tag", version="4.3.1", hardware_id="rev-b", device_id="0815")
ANSWER = Answer(app_id="tag", version="4.3.1", hardware_id="rev-b", device_id="0815")
T = TypeVar("T")


@dataclass
class Lab:
    """A place with an adapter."""

    air: Air
    adapter: BumbleBackend
    radio: Radio

    tags: list[Tag | SmpTag] = field(default_factory=list)

    @classmethod
    async def make(cls) -> "Lab":
        air = Air()
        adapter = await air.backend()
        return cls(air, adapter, Radio(backend=adapter.backend))

    async def tag(self, name: str, address: str) -> None:
        self.tags.append(await PythonTag.at(self.air, name, address, PROFILE))

    async def close(self) -> None:
        for tag in self.tags:
            await tag.close()
        await self.radio.close()
        await self.air.close()

    async def scan(self, *, targets: dict[str, Target] | None = None, **settings: Any) -> BleReport:
        usual: dict[str, Any] = {"duration_s": 1.0, "ask": False, "everything": False}
        ours = Ours("barn", targets or {}, settings.pop("claimed", {}))
        return await scan_ble(self.radio, ours, **(usual | settings))


def in_air(test: Callable[[Lab], Awaitable[T]]) -> Callable[[], T]:
    """Run a test with a laboratory of its own, in virtual time."""

    @timeless
    async def run() -> T:
        lab = await Lab.make()
        try:
            return await test(lab)
        finally:
            await lab.close()

    return run


@in_air
async def test_who_offers_rcp_is_listed_and_nobody_is_connected_to(lab: Lab) -> None:
    await lab.air.peripheral("tag-1", FIRST)
    sleepy = await lab.air.peripheral("tag-2", SECOND)
    await sleepy.advertise(service_data=b"\x07")
    await lab.air.peripheral("lamp", THIRD, has_service=False)
    report = await lab.scan()
    assert {(one.address, one.name, one.offers_rcp) for one in report.devices} == {
        (FIRST, "tag-1", True),
        (SECOND, "tag-2", True),
    }
    assert {one.rssi_dbm for one in report.devices} == {-50}  # what bumble's air has for all
    assert {one.address for one in (await lab.scan(everything=True)).devices} == {FIRST, SECOND, THIRD}
    assert lab.adapter.connects == 0


@in_air
async def test_the_configurations_devices_are_known_and_missed(lab: Lab) -> None:
    await lab.air.peripheral("tag-1", FIRST)
    await lab.air.peripheral("old", SECOND, has_service=False)
    targets = {"by-address": Target(address=FIRST), "by-name": Target(name="old"), "away": Target(name="x")}
    report = await lab.scan(targets=targets)
    assert {one.configured_as: one.offers_rcp for one in report.devices} == {
        "by-address": True,
        "by-name": False,
    }
    assert report.not_heard == ("away",)


@in_air
async def test_who_offers_rcp_is_asked_one_at_a_time(lab: Lab) -> None:
    for n in range(3):
        await lab.tag(f"tag-{n}", f"C0:FF:EE:00:00:0{n}")
    await lab.air.peripheral("lamp", "C0:FF:EE:00:00:09", has_service=False)
    report = await lab.scan(ask=True, everything=True)
    assert [one.device for one in report.devices if one.offers_rcp] == [ANSWER] * 3
    assert (lab.adapter.connects, lab.adapter.most_connected, lab.adapter.pairs) == (3, 1, 0)
    assert lab.radio.free_slots == 3


@in_air
async def test_who_offers_smp_is_heard_asked_and_printed_and_nothing_is_done_to_it(lab: Lab) -> None:
    sensor = await SmpTag.at(lab.air, "sensor", FIRST)
    lab.tags.append(sensor)
    before = sensor.runs
    report = await lab.scan(ask=True)
    (found,) = report.devices
    assert (found.protocols, found.offers_rcp, found.code) == (("smp",), False, None)
    assert found.device == Answer(
        app_id=None, hardware_id=ORDINARY.board, device_id=None, version="1.0.0", protocol="smp"
    )
    (entry,) = yaml.safe_load(ble_to_yaml(report, LocalDevices("barn")))["devices"]
    assert (entry["protocol"], entry["version"], entry["link"]) == ("smp", "1.0.0", {"ble": FIRST})
    assert (sensor.runs, sensor.server.boots, lab.adapter.pairs) == (before, 1, 0)


@in_air
async def test_what_the_running_gateway_has_is_not_asked(lab: Lab) -> None:
    await lab.air.peripheral("tag-1", FIRST)
    mine = {"tag-7": Target(address=FIRST)}
    report = await lab.scan(ask=True, targets=mine, claimed={"tag-7": "in use by the running gatewayd"})
    (heard,) = report.devices
    assert (heard.code, heard.text) == ("link_busy", "in use by the running gatewayd")
    assert lab.adapter.connects == 0


@in_air
async def test_a_device_that_wants_a_bond_says_nothing_and_that_is_told(lab: Lab) -> None:
    await lab.air.peripheral("tag-1", FIRST, needs_bond=True)
    (heard,) = (await lab.scan(ask=True)).devices
    assert (heard.device, heard.code, lab.adapter.pairs) == (None, "link_lost", 0)
    assert heard.hint is not None
    assert "bluetoothctl pair" in heard.hint


@in_air
async def test_a_device_that_does_not_answer(lab: Lab) -> None:
    await lab.air.peripheral("tag-1", FIRST)
    (heard,) = (await lab.scan(ask=True)).devices
    assert (heard.device, heard.code) == (None, "no_answer")


@in_air
async def test_an_adapter_that_cannot_has_the_daemons_codes(lab: Lab) -> None:
    lab.adapter.fault = BleakError("No powered Bluetooth adapters found.")
    with pytest.raises(LinkError) as raised:
        await lab.scan()
    assert raised.value.code == "adapter_blocked"


# -- the command


def run(*words: object) -> str:
    with redirect_stdout(io.StringIO()) as stdout:
        cli.main(["scan", "ble", *map(str, words)], standalone_mode=False)
    return stdout.getvalue()


@pytest.fixture
def two_tags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command looks at a radio in virtual time, with a device of the configuration and another."""

    async def scan(_: Radio, ours: Ours, **settings: Any) -> BleReport:
        @in_air
        async def look(lab: Lab) -> BleReport:
            await lab.tag("tag-1", FIRST)
            await lab.tag("tag-2", SECOND)
            return await scan_ble(lab.radio, ours, **settings | {"duration_s": 1.0})

        return await asyncio.to_thread(look)

    monkeypatch.setattr(ble, "scan_ble", scan)
    monkeypatch.setattr(local_devices, "DEFAULT_CONFIG", tmp_path / "config.yaml")
    devices = [
        {"name": "tag-1", "app_id": "tag", "version": "4.3.1", "link": {"ble": FIRST}},
        {"name": "tag-2", "app_id": "tag", "version": "4.3.1", "link": {"ble": {"name": "elsewhere"}}},
    ]
    tree = {"mqtt": {"host": "127.0.0.1"}, "gateway": {"state_dir": "state"}, "devices": devices}
    (tmp_path / "config.yaml").write_text(json.dumps(tree))


@pytest.mark.usefixtures("two_tags")
def test_what_answers_can_be_pasted_and_the_rest_is_comment(tmp_path: Path) -> None:
    printed = run("--ask")
    assert yaml.safe_load(printed) == {
        "devices": [
            {
                "name": "tag-3",
                "app_id": "tag",
                "hardware_id": "rev-b",
                "version": "4.3.1",
                "link": {"ble": SECOND},
            }
        ]
    }
    assert f"\n# {FIRST} tag-1 (-50 dBm): is tag-1 in the configuration; tag 4.3.1 answers\n" in printed
    assert "\n# tag-2 was not found: check that elsewhere is on, in range, and not connected\n" in printed
    config = tmp_path / "pasted.yaml"
    config.write_text("mqtt: {host: 127.0.0.1}\n" + printed)
    assert [one.name for one in load(config).devices] == ["tag-3"]


@pytest.mark.usefixtures("two_tags")
def test_what_was_not_asked_is_left_to_the_person(tmp_path: Path) -> None:
    config = tmp_path / "pasted.yaml"
    config.write_text("mqtt: {host: 127.0.0.1}\n" + run())
    with pytest.raises(ConfigErrors) as refused:
        load(config)
    assert [mistake.key_path for mistake in refused.value.mistakes] == [
        "devices[0].app_id",
        "devices[0].version",
    ]


@pytest.mark.usefixtures("two_tags")
def test_json_is_what_its_schema_says() -> None:
    document = json.loads(run("--ask", "--json"))
    jsonschema.validate(document, BleReport.model_json_schema())
    devices = {one["address"]: one for one in document["devices"]}
    assert devices[SECOND]["device"]["app_id"] == "tag"
    assert devices[FIRST]["configured_as"] == "tag-1"


def test_without_bluez_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(local_devices, "DEFAULT_CONFIG", tmp_path / "none")
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    with pytest.raises(LinkError) as refused:
        run("--adapter", "hci0", "--seconds", 1)
    assert refused.value.code == "bluetooth_missing"


# -- what to paste


def heard(address: str = FIRST, **facts: Any) -> HeardDevice:
    usual: dict[str, Any] = {"name": None, "rssi_dbm": -60, "offers_rcp": True, "protocols": ("rcp",)}
    return HeardDevice(address=address, **(usual | facts))


def paste(*devices: HeardDevice, not_heard: tuple[str, ...] = (), ours: LocalDevices | None = None) -> str:
    return ble_to_yaml(BleReport(devices=devices, not_heard=not_heard), ours or LocalDevices("barn"))


def test_who_is_not_heard_may_be_the_daemons() -> None:
    ours = LocalDevices(
        "barn", {}, {"tag-1": BleTarget(name="tag-1")}, {"tag-1": "in use by the running gatewayd"}
    )
    printed = paste(not_heard=("tag-1",), ours=ours)
    assert "# tag-1 was not found: in use by the running gatewayd\n" in printed
    assert "# No device that advertises RCP or SMP (MCUmgr) was found" in printed


@pytest.mark.parametrize(
    ("device", "says"),
    [
        (
            heard(offers_rcp=False, protocols=(), name="lamp"),
            f"{FIRST} lamp (-60 dBm): does not advertise RCP",
        ),
        (heard(code="no_answer", text="silence", hint="on?"), f"{FIRST} (-60 dBm): silence (on?)"),
        (heard(device=ANSWER.model_copy(update={"app_id": "a/#"})), "cannot be configured"),
        (
            heard(offers_rcp=False, protocols=(), name="Evil\nname: x\x1b[2J"),
            f"{FIRST} Evil?name: x?[2J (-60 dBm)",
        ),
    ],
)
def test_what_cannot_be_pasted_is_one_line_of_comment(device: HeardDevice, says: str) -> None:
    printed = paste(device)
    assert yaml.safe_load(printed) == {"devices": []}
    assert printed.count("\n") == 2
    assert f"# {says}" in printed or says in printed


def test_a_device_that_advertises_smp_is_pasted_with_its_protocol() -> None:
    printed = paste(heard(name="sensor", offers_rcp=False, protocols=("smp",)), heard(SECOND))
    first, second = yaml.safe_load(printed)["devices"]
    assert (first["protocol"], first["link"]) == ("smp", {"ble": FIRST})
    assert "protocol" not in second, "RCP is the default"


@pytest.mark.attack("a name that breaks out of the YAML that `scan ble` prints")
def test_a_name_out_of_the_air_is_no_yaml() -> None:
    printed = paste(heard(name='x"\nlink: {uart: /dev/ttyS0}', device=ANSWER))
    (entry,) = yaml.safe_load(printed)["devices"]
    assert entry["link"] == {"ble": FIRST}


# -- what is known already


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (FIRST, BleTarget(address=FIRST)),
        ({"name": "tag"}, BleTarget(name="tag")),
        (
            {"service_data": {"uuid": GATT.service}},
            BleTarget.model_validate({"service_data": {"uuid": GATT.service}}),
        ),
        ({"nmae": "tag"}, None),
        (7, None),
    ],
)
def test_a_target_is_read_as_far_as_it_can_be(
    written: Any, read: BleTarget | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tree = {"gateway": {"state_dir": "state"}, "devices": [{"name": "tag-1", "link": {"ble": written}}]}
    (tmp_path / "config.yaml").write_text(json.dumps(tree))
    found = local_devices.look_up(tmp_path / "config.yaml", tmp_path / "none.sock")
    assert found.targets.get("tag-1") == read
