"""Files for the broker that are not there when the machine starts: devices are served, and the rest heals."""

import random
from pathlib import Path

from lab.desk import desk

IMAGE = random.Random(13).randbytes(30_000)
QUICK = "from gatewayd import reload\nreload.LOOK_AGAIN_S = 0.2"


def test_a_password_that_comes_late_costs_the_connection_and_no_device(tmp_path: Path) -> None:
    with desk(tmp_path) as barn:
        barn.gateway.preset = QUICK
        barn.gateway.config["mqtt"] |= {"username": "barn", "password_file": "password"}
        barn.configure(barn.device("pump-1").config())
        barn.start()
        assert "gatewayd cannot log in to the broker" in " ".join(barn.good("devices").split())
        assert barn.json("devices", "devices")["trouble"]["code"] == "login_unusable"
        barn.until(lambda: "no connection to the broker" in barn.log(), "it tries to connect")
        barn.good("push", "pump-1", barn.container(IMAGE), "--version", "4.3.2")
        barn.until_state("pump-1", "succeeded", installed_version="4.3.2")

        password = tmp_path / "password"
        password.write_text("secret\n")
        password.chmod(0o600)
        barn.until(lambda: barn.json("devices", "devices")["trouble"] is None, "it heals")
        barn.until(lambda: barn.published_of_gateway()["online_since"], "it is online")
        barn.publish("pump", "4.3.3", IMAGE[::-1])
        barn.until_state("pump-1", "succeeded", installed_version="4.3.3")
