"""What a person sees in the real Home Assistant, and what its button does.

Each test has a gateway of its own, `barn-APP`, with devices of that application; they share one Home
Assistant and one broker.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lab.desk import Desk
from lab.farm import image_of

from gatewayd import __version__
from suites.home_assistant.house import AnswerError, HomeAssistant, a_house

IMAGE = image_of(17, 20_000)
# On its way for some ten seconds: long enough to be seen, and to be cut.
LONG_IMAGE, RATE = image_of(18, 200_000), 20_000
UPDATE = ("installed_version", "latest_version", "in_progress")
INSTALL = 1  # the bit of an update entity's supported features
_UNKNOWN = {"unknown", "unavailable"}


@pytest.fixture(name="home", scope="module")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HomeAssistant]:
    with a_house(tmp_path_factory.mktemp("house")) as home:
        yield home


@contextmanager
def a_barn(home: HomeAssistant, folder: Path, app: str) -> Iterator[Desk]:
    """A gateway that reports to this Home Assistant; not started yet."""
    barn = Desk(folder, home.broker)
    barn.gateway.config["gateway"]["id"] = f"barn-{app}"
    barn.gateway.config["mqtt"]["home_assistant"] = {}
    try:
        yield barn
    finally:
        barn.leave()


def update_of(home: HomeAssistant, entity: str) -> tuple[Any, ...]:
    """Return what the card of an update says."""
    shown = home.attributes(entity)
    return home.state(entity), *(shown.get(key) for key in UPDATE)


def _device_of(entity: str) -> str:
    return entity.split(".")[1].rpartition("_")[0]


def test_a_device_and_its_gateway_appear(home: HomeAssistant, tmp_path: Path) -> None:
    with a_barn(home, tmp_path, "pump") as barn:
        barn.configure(barn.device("pump-1").config())
        barn.start()
        gateway = {
            "binary_sensor.gatewayd_barn_pump_connectivity": "on",
            "sensor.gatewayd_barn_pump_version": __version__,
            "binary_sensor.gatewayd_barn_pump_configuration_refused": "off",
            "binary_sensor.gatewayd_barn_pump_trouble": "off",
        }
        device = {
            "update.pump_1_firmware": "off",
            "sensor.pump_1_state": "idle",
            "binary_sensor.pump_1_problem": "off",
        }
        home.until(lambda: home.states("barn_pump") == gateway, "the gateway")
        home.until(lambda: home.states("pump_1") == device, "the device")
        assert update_of(home, "update.pump_1_firmware") == ("off", "4.3.1", "4.3.1", False)
        home.until(lambda: home.device("gatewayd/barn-pump/pump-1")["sw_version"] == "4.3.1", "its page")
        shown, parent = (home.device(f"gatewayd/barn-pump{part}") for part in ("/pump-1", ""))
        assert (shown["name"], shown["model"]) == ("pump-1", "pump")
        assert shown["via_device_id"] == parent["id"]

        refused = "binary_sensor.gatewayd_barn_pump_configuration_refused"
        barn.gateway.config["devices"][0]["version"] = "four"
        barn.write()
        assert barn.run("reload").exit_code != 0
        home.until(lambda: home.state(refused) == "on", "the configuration is refused")
        home.until(lambda: "four" in str(home.attributes(refused).get("reason")), "and why")
        barn.gateway.config["devices"][0]["version"] = "4.3.1"
        barn.write()
        barn.good("reload")
        home.until(lambda: home.state(refused) == "off", "it is in force")


@pytest.mark.parametrize("name", ["tank-1", "silo.1"])
def test_the_button_installs_and_the_percentage_moves(home: HomeAssistant, tmp_path: Path, name: str) -> None:
    app = name[:4]
    update = f"update.{app}_1_firmware"
    with a_barn(home, tmp_path, app) as barn:
        device = barn.device(f"{app}-1", rate=RATE)
        barn.configure(device.config(install="manual", name=name))
        barn.start()
        barn.publish(app, "4.3.2", LONG_IMAGE)
        home.until(lambda: update_of(home, update) == ("on", "4.3.1", "4.3.2", False), "it is on offer")
        assert home.state(f"sensor.{app}_1_state") == "offered"
        home.until(lambda: home.attributes(update)["supported_features"] & INSTALL, "there is a button")
        home.install(update)
        seen: list[int] = []

        def is_installed() -> bool:
            shown = home.shown(update) or {"state": "", "attributes": {}}
            now = shown["attributes"]
            if now.get("in_progress") and now.get("update_percentage") is not None:
                seen.append(now["update_percentage"])
            is_over = shown["state"] == "off" and not now.get("in_progress")
            return bool(is_over and now.get("installed_version") == "4.3.2")

        home.until(is_installed, "it is installed")
        assert seen == sorted(seen)
        assert len(set(seen)) >= 3, seen
        assert home.attributes(update)["latest_version"] == "4.3.2"
        assert device.active == LONG_IMAGE
        assert [line["by"] for line in barn.gateway.log_events("approved")] == ["mqtt"]
        identifier = f"gatewayd/barn-{app}/{name}"
        home.until(lambda: home.device(identifier)["sw_version"] == "4.3.2", "so says the device's page")


def test_a_refusal_is_a_problem_and_not_up_to_date(home: HomeAssistant, tmp_path: Path) -> None:
    update, problem = "update.valve_1_firmware", "binary_sensor.valve_1_problem"
    with a_barn(home, tmp_path, "valve") as barn:
        barn.configure(barn.device("valve-1").config())
        barn.start()
        home.until(lambda: home.state(problem) == "off", "no problem yet")
        barn.gateway.publish(barn.gateway.pack(IMAGE, "--no-sign"), "4.3.2", "valve")
        home.until(lambda: home.state(problem) == "on", "it is a problem, even without a known version")
        assert home.attributes(problem)["code"] == "unsigned"
        assert "not signed" in home.attributes(problem)["reason"]
        barn.gateway.publish(barn.gateway.pack(IMAGE, address=0x9000), "4.3.3", "valve")
        refused = ("on", "4.3.1", "4.3.3", False)
        home.until(lambda: update_of(home, update) == refused, "it is not up to date")
        home.until(lambda: not home.attributes(update)["supported_features"] & INSTALL, "there is no button")
        with pytest.raises(AnswerError):
            home.install(update)
        why = home.attributes(problem)
        assert (home.state(problem), why["code"], why["refused_version"]) == (
            "on",
            "no_rom_for_slot",
            "4.3.3",
        )
        assert home.attributes(update)["release_summary"] == why["reason"]
        assert home.state("sensor.valve_1_state") == "refused"
        barn.publish("valve", "4.3.4", IMAGE)
        home.until(lambda: update_of(home, update) == ("off", "4.3.4", "4.3.4", False), "a good one")
        home.until(lambda: home.state(problem) == "off", "no problem any more")


def test_an_unplugged_device_does_not_install_for_ever(home: HomeAssistant, tmp_path: Path) -> None:
    update, problem = "update.lamp_1_firmware", "binary_sensor.lamp_1_problem"
    with a_barn(home, tmp_path, "lamp") as barn:
        device = barn.device("lamp-1", rate=RATE)
        barn.configure(device.config())
        barn.start()
        barn.publish("lamp", "4.3.2", LONG_IMAGE)
        home.until(lambda: home.attributes(update).get("update_percentage"), "it is under way")
        device.stop()
        home.until(lambda: home.attributes(update).get("in_progress") is False, "it is not under way")
        why = "port-lamp-1 does not exist"
        home.until(lambda: why in str(home.attributes(update).get("release_summary")), "why")
        home.until(lambda: update_of(home, update) == ("on", "4.3.1", "4.3.2", False), "it is still on offer")
        home.until(lambda: home.state("sensor.lamp_1_state") == "queued", "it waits")
        home.until(lambda: home.state(problem) == "on", "it is a problem")
        device.start()
        home.until(lambda: update_of(home, update) == ("off", "4.3.2", "4.3.2", False), "it is installed")
        home.until(lambda: home.state(problem) == "off", "it is none any more")
        assert device.active == LONG_IMAGE


def test_a_gateway_that_is_gone_makes_its_devices_unavailable(home: HomeAssistant, tmp_path: Path) -> None:
    connectivity = "binary_sensor.gatewayd_barn_fan_connectivity"
    with a_barn(home, tmp_path, "fan") as barn:
        barn.configure(barn.device("fan-1").config(install="manual"))
        barn.start()
        barn.publish("fan", "4.3.2", IMAGE)
        before = {
            "update.fan_1_firmware": "on",
            "sensor.fan_1_state": "offered",
            "binary_sensor.fan_1_problem": "off",
        }
        home.until(lambda: home.states("fan_1") == before, "it is on offer")
        home.until(lambda: home.state(connectivity) == "on", "the gateway is there")
        barn.gateway.stop(9)
        away = dict.fromkeys(before, "unavailable")
        home.until(lambda: home.states("fan_1") == away, "the devices are unavailable")
        home.until(lambda: home.state(connectivity) == "off", "the gateway is gone")
        home.install("update.fan_1_firmware")  # Home Assistant takes it, and sends nothing
        barn.start()
        home.until(lambda: home.states("fan_1") == before, "all is as it was")
        home.until(lambda: home.state(connectivity) == "on", "the gateway is back")
        assert barn.views()["fan-1"].state == "offered"


def test_what_is_removed_leaves_no_ghost(home: HomeAssistant, tmp_path: Path) -> None:
    with a_barn(home, tmp_path, "gate") as barn:
        one, other, last = (barn.device(f"gate-{number}").config() for number in "123")
        last["name"] = "gate.3"

        def until_known(*names: str) -> None:
            """What is registered is shown, and nothing else."""
            devices = {f"gatewayd/barn-gate/{name}" for name in names}
            parts = {f"{device}/{part}" for device in devices for part in ("update", "state", "problem")}
            home.until(lambda: home.registered("barn-gate/") - gateway == devices | parts, f"{names}")
            slugs = {name.replace("-", "_").replace(".", "_") for name in names}
            home.until(lambda: {_device_of(entity) for entity in home.states(".gate_")} == slugs, "shown")

        barn.configure(one, other, last)
        barn.start()
        home.until(lambda: len(home.registered("barn-gate")) == 5 + 3 * 4, "everything")
        gateway = home.registered("barn-gate//")
        assert len(gateway) == 4
        until_known("gate-1", "gate-2", "gate.3")
        barn.stop()
        barn.configure(one, last)
        barn.start()
        until_known("gate-1", "gate.3")  # removed while the daemon was off
        barn.configure(one)
        barn.good("reload")
        until_known("gate-1")  # removed while it ran
        on = barn.gateway.config["mqtt"].pop("home_assistant")
        barn.write()
        barn.good("reload")
        home.until(lambda: home.registered("barn-gate") == set(), "the feature is off")
        home.until(lambda: home.states("gate_") == {}, "nothing is shown")
        barn.gateway.config["mqtt"]["home_assistant"] = on
        barn.write()
        barn.good("reload")
        until_known("gate-1")
        barn.stop()
        assert home.registered("barn-gate"), "a gateway that is only away stays"
        del barn.gateway.config["mqtt"]["home_assistant"]
        barn.write()
        command = ("fleet", "clear-home-assistant", "--config", barn.folder / "config.yaml")
        assert "2 messages emptied" in barn.good(*command)
        home.until(lambda: home.registered("barn-gate") == set(), "one command clears it")
        home.until(lambda: home.states("gate_") == {}, "nothing is shown any more")
        barn.gateway.config["mqtt"]["home_assistant"] = on
        barn.gateway.config["gateway"]["id"] = "barn-gate-2"
        barn.start()
        home.until(lambda: len(home.registered("barn-gate-2")) == 5 + 4, "it has another id")
        barn.stop()
        barn.good("fleet", "forget", "barn-gate-2", "--config", barn.folder / "config.yaml")
        home.until(lambda: home.registered("barn-gate") == set(), "so is what another id left")


def test_either_side_and_the_broker_may_restart(home: HomeAssistant, tmp_path: Path) -> None:
    update = "update.mill_1_firmware"
    with a_barn(home, tmp_path, "mill") as barn:
        barn.configure(barn.device("mill-1").config(install="manual"))
        barn.start()
        barn.publish("mill", "4.3.2", IMAGE)
        offered = ("on", "4.3.1", "4.3.2", False)
        home.until(lambda: update_of(home, update) == offered, "it is on offer")
        home.until(lambda: home.attributes(update)["supported_features"] & INSTALL, "there is a button")
        home.until(lambda: len(home.states("mill_1")) == 3, "all entities")
        home.until(lambda: len(home.states("barn_mill")) == 4, "all entities of the gateway")
        home.until(lambda: not _UNKNOWN & set(home.states("mill").values()), "each has a state")
        everything = home.states("mill")
        home.stop()
        home.start()
        home.until(lambda: home.states("mill") == everything, "Home Assistant has everything again")
        barn.stop()
        home.until(lambda: home.state(update) == "unavailable", "the daemon is away")
        barn.start()
        home.until(lambda: home.states("mill") == everything, "the daemon is back")
        home.broker.stop()
        home.until(lambda: home.state(update) == "unavailable", "Home Assistant has lost the broker")
        home.broker.start()  # it has lost what it retained
        home.until(lambda: home.states("mill") == everything, "the broker is back")
        assert update_of(home, update) == offered
        home.install(update)
        home.until(lambda: update_of(home, update) == ("off", "4.3.2", "4.3.2", False), "it is installed")


def test_what_is_removed_while_home_assistant_is_off_can_be_deleted_there(
    home: HomeAssistant, tmp_path: Path
) -> None:
    """It never hears of it, and keeps what it knew; docs/home-assistant.md says what to do."""
    with a_barn(home, tmp_path, "well") as barn:
        stays, goes = (barn.device(f"well-{number}").config() for number in "12")
        barn.configure(stays, goes)
        barn.start()
        home.until(lambda: set(home.states(".well_").values()) == {"off", "idle"}, "both have a state")
        home.until(lambda: len(home.states(".well_")) == 6, "all entities")
        home.stop()
        barn.configure(stays)
        barn.good("reload")
        home.start()
        home.until(lambda: home.state("update.well_1_firmware") == "off", "it has its devices again")
        home.until(
            lambda: list(home.states("well_2").values()) == ["unavailable"] * 3, "the other one is away"
        )
        home.delete("gatewayd/barn-well/well-2")
        home.until(lambda: home.states("well_2") == {}, "it is gone")
        home.until(lambda: not home.registered("barn-well/well-2"), "nor is it known any more")
        assert home.state("update.well_1_firmware") == "off"
