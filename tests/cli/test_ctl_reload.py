"""Another configuration while transfers run: who is not concerned does not notice."""

import json
import random
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from lab.brokers import Mosquitto
from lab.desk import Desk, desk

pytestmark = pytest.mark.slow

IMAGE = random.Random(8).randbytes(40_000)
RATE = 20_000


@pytest.fixture(name="barn")
def _barn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A transfer that would take a minute, and must not notice anything; one device that is idle."""
    with desk(tmp_path_factory.mktemp("ctl")) as whole:
        slow = whole.device("slow-1", rate=RATE).config(link={"baud": 115200})
        whole.configure(slow, whole.device("pump-1").config())
        whole.start()
        whole.until_state("pump-1", "idle")
        whole.publish("slow", "4.3.2", IMAGE * 30)
        whole.until_state("slow-1", "transferring")
        yield whole


def undisturbed(barn: Desk) -> None:
    """The long transfer goes on: one opening of the line, nothing resumed."""
    before = barn.views()["slow-1"].received_bytes or 0
    barn.until(lambda: (barn.views()["slow-1"].received_bytes or 0) > before, "it goes on")
    assert barn.views()["slow-1"].state == "transferring"
    (job,) = barn.jobs("slow-1")
    (attempt,) = barn.json("job", "job", job.id)["attempts"]
    assert (job.transfers, job.resumes) == (1, 0)
    assert (attempt["code"], attempt["ended_at"], attempt["resumes"], attempt["times"]) == (None, None, 0, 1)


def devices(barn: Desk) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = barn.gateway.config["devices"]
    return found


def in_force(barn: Desk) -> tuple[str, str | None]:
    """Return what the doctor finds of the file and what is in force; check-config finds the same."""
    file = barn.folder / "config.yaml"
    found = json.loads(barn.run("doctor", "--config", file, "--json").out)["findings"]
    (one,) = [finding for finding in found if finding["subject"] == "in force"]
    ran = barn.run("check-config", file, "--in-force", "--json")
    assert json.loads(ran.out).get("error", {"code": None})["code"] == one["code"], ran
    return one["level"], one["code"]


def test_what_is_in_force_is_asked_of_the_daemon(barn: Desk) -> None:
    assert in_force(barn) == ("ok", None)
    devices(barn)[1]["attempts"] = 3
    barn.write()
    assert in_force(barn) == ("warning", "not_in_force")
    before = barn.json("devices", "devices")
    barn.good("reload")
    assert in_force(barn) == ("ok", None)
    assert before["config_refused"] is None

    key = barn.folder / "verify.key.bin"
    key.rename(barn.folder / "moved")
    assert barn.run("doctor", "--config", barn.folder / "config.yaml").exit_code == 78
    assert list(barn.views()) == ["slow-1", "pump-1"]


def test_devices_come_change_and_go(barn: Desk) -> None:
    new = barn.device("gate-1")
    devices(barn).append(new.config(install="manual"))
    devices(barn)[1]["attempts"] = 3
    barn.write()
    result = barn.json("reload", "reload")
    assert (result["added"], result["changed"]) == (["gate-1"], ["pump-1"])
    assert (result["removed"], result["unchanged"]) == ([], ["slow-1"])
    assert result["file"] == str(barn.folder / "config.yaml")
    barn.until_state("gate-1", "idle")
    barn.publish("gate", "4.3.2", IMAGE)
    barn.until_state("gate-1", "offered")

    devices(barn)[2]["install"] = "auto"
    del devices(barn)[1]
    barn.write()
    assert barn.good("reload") == (
        f"changed: gate-1\nremoved: pump-1\n{barn.folder / 'config.yaml'} is in force; 1 device unchanged\n"
    )
    barn.until_state("gate-1", "succeeded", installed_version="4.3.2")
    assert list(barn.views()) == ["slow-1", "gate-1"]
    assert barn.refused("devices", "devices", "pump-1")["code"] == "no_such_device"
    assert barn.json("reload", "reload")["unchanged"] == ["slow-1", "gate-1"]
    undisturbed(barn)


def test_a_hang_up_signal_does_the_same(barn: Desk) -> None:
    devices(barn).append(barn.device("gate-1").config())
    barn.write()
    assert barn.gateway.process is not None
    barn.gateway.process.send_signal(signal.SIGHUP)
    barn.until(lambda: "gate-1" in barn.views(), "it is read")
    devices(barn)[2]["app_id"] = "a/b"
    barn.write()
    barn.gateway.process.send_signal(signal.SIGHUP)
    barn.until(lambda: "configuration not reloaded" in barn.log(), "it is refused")
    assert "config.yaml:" in barn.log().partition("configuration not reloaded")[0].splitlines()[-1]
    assert barn.views()["gate-1"].app_id == "gate"
    undisturbed(barn)


def test_a_file_with_mistakes_changes_nothing_and_says_so(barn: Desk) -> None:
    file = barn.folder / "config.yaml"
    good = file.read_text()
    for bad, says in (
        (good.replace("attempts", "atempts") + "more: 1\n", "more"),
        (good.replace("barn", "barn\x00"), str(file)),
        ("{", str(file)),
        ("", str(file)),
        (good.replace("port-pump-1", "port-slow-1"), "port-slow-1"),
    ):
        file.write_text(bad)
        error = barn.refused("reload", "reload", exit_code=78)
        assert error["code"] == "bad_configuration"
        assert says in error["message"]
        assert error["mistakes"]
        assert list(barn.views()) == ["slow-1", "pump-1"]
    revision = barn.published_of_gateway()["config_revision"]
    file.unlink()
    assert str(file) in barn.refused("reload", "reload", exit_code=78)["message"]
    told = f"{file}: cannot be read: No such file or directory."
    assert barn.json("devices", "devices")["config_refused"].startswith(told)
    assert f"an older one is in force:\n  {told}" in barn.good("devices")
    barn.until(lambda: (barn.published_of_gateway()["config_refused"] or "").startswith(told), "it is said")
    assert barn.published_of_gateway()["config_revision"] == revision
    file.write_text(good)
    assert barn.json("reload", "reload")["unchanged"] == ["slow-1", "pump-1"]
    assert barn.json("devices", "devices")["config_refused"] is None
    barn.until(lambda: barn.published_of_gateway()["config_refused"] is None, "it is taken back")
    undisturbed(barn)


def test_what_a_running_daemon_cannot_change_is_refused(barn: Desk) -> None:
    barn.gateway.config["gateway"]["id"] = "stable"
    barn.write()
    error = barn.refused("reload", "reload")
    assert error["code"] == "restart_needed"
    assert "gateway.id" in error["message"]
    assert "restart" in error["hint"]
    assert in_force(barn) == ("failure", "restart_needed")
    barn.until(lambda: "gateway.id" in (barn.published_of_gateway()["config_refused"] or ""), "it is said")
    assert barn.json("devices", "devices")["gateway"] == "barn"


def test_another_broker_is_gone_to_in_mid_transfer(barn: Desk) -> None:
    with Mosquitto(barn.folder / "other") as other:
        barn.gateway.config["mqtt"]["port"] = other.port
        barn.write()
        assert barn.good("reload").startswith("changed: mqtt; gatewayd reconnects to the broker\n")
        barn.publish("pump", "4.3.2", IMAGE)  # where the configuration says now
        barn.until_state("pump-1", "succeeded", installed_version="4.3.2")
        undisturbed(barn)
        assert barn.devices["pump-1"].active == IMAGE
        barn.stop()


def test_another_port_stops_the_transfer_there_and_goes_on_here(barn: Desk) -> None:
    """A device that was plugged in elsewhere."""
    device = barn.devices["slow-1"]
    barn.until(lambda: (barn.views()["slow-1"].received_bytes or 0) > 40_000, "some of it")
    elsewhere = barn.folder / "port-elsewhere"
    elsewhere.symlink_to(device.port.readlink())
    devices(barn)[0]["link"]["uart"] = str(elsewhere)
    barn.write()
    assert barn.json("reload", "reload")["changed"] == ["slow-1"]
    (job,) = barn.jobs("slow-1")
    barn.until(lambda: len(barn.json("job", "job", job.id)["attempts"]) == 2, "another attempt")
    barn.until(lambda: (barn.views()["slow-1"].resumes or 0) == 1, "it goes on")
    first, second = barn.json("job", "job", job.id)["attempts"]
    assert (first["code"], second["code"]) == ("reconfigured", None)
    assert barn.gateway.log_events("transfer")[-1]["offset"] >= 40_000 - 8192
    assert barn.views()["slow-1"].link.address == str(elsewhere)


def test_a_removed_device_is_let_go_in_mid_transfer(barn: Desk) -> None:
    job = barn.jobs("slow-1")[0].id
    del devices(barn)[0]
    barn.write()
    assert barn.json("reload", "reload")["removed"] == ["slow-1"]
    told = barn.json("job", "job", job)["job"]
    assert (told["state"], told["code"]) == ("cancelled", "not_configured")
    assert [one["id"] for one in barn.json("jobs", "jobs", "slow-1")["jobs"]] == [job], "its history stays"


def test_a_transfer_beside_reloads_ends_as_if_there_were_none(barn: Desk) -> None:
    pump = barn.devices["pump-1"]
    pump.stop()
    barn.publish("pump", "4.3.2", IMAGE)
    for attempts in (2, 3, 4):
        devices(barn)[1]["attempts"] = attempts
        barn.write()
        barn.json("reload", "reload")
    pump.start()
    barn.until_state("pump-1", "succeeded", installed_version="4.3.2")
    assert pump.active == IMAGE
    undisturbed(barn)
