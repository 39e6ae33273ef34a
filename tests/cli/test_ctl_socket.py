"""The daemon and its socket: who may use it, and that devices are served without one."""

import random
import stat
from pathlib import Path

import pytest
from lab.desk import desk

pytestmark = pytest.mark.slow

IMAGE = random.Random(10).randbytes(20_000)


def test_devices_are_served_also_without_a_control_socket(tmp_path: Path) -> None:
    with desk(tmp_path) as barn:
        device = barn.device("pump-1")
        barn.configure(device.config())
        barn.socket.write_text("precious")
        barn.gateway.start()
        barn.until(lambda: "gatewayctl cannot reach this daemon" in barn.log(), "it says so")
        assert '"code": "no_control_socket"' in barn.log()
        assert barn.refused("devices", "devices", exit_code=75)["code"] == "daemon_unreachable"
        barn.publish("pump", "4.3.2", IMAGE)
        barn.until(lambda: device.active == IMAGE, "an update")
        assert barn.socket.read_text() == "precious"

        barn.stop()
        barn.socket.unlink()
        barn.start()
        about = barn.socket.stat()
        assert stat.S_IMODE(about.st_mode) == 0o660
        barn.stop()
        assert not barn.socket.exists()


def test_a_second_daemon_leaves_the_firsts_socket_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with desk(tmp_path / "a") as first, desk(tmp_path / "b") as second:
        for barn in (first, second):
            barn.configure()
        first.start()
        second.gateway.config["gateway"] |= {"id": "stable", "control_socket": str(first.socket)}
        second.gateway.start()
        second.until(lambda: '"code": "control_socket_in_use"' in second.log(), "it says so")
        assert first.json("devices", "devices")["gateway"] == "barn"
        second.stop()
        assert first.good("devices") == "No devices are configured on barn.\n"
