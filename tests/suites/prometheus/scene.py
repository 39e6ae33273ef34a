"""Two gateways for the dashboard, on which every figure of it is another one than zero.

| gateway | device | what becomes of it |
|---|---|---|
| barn | pump-1 | is updated |
| barn | lamp-1 | is on its way all the time, at the pace of its line |
| barn | valve-1 | waits for approval; a newer release came meanwhile, and one was cancelled |
| barn | tank-1 | refuses a release that somebody else has signed |
| barn | gate-1 | does not survive the new image, and is back at the old one |
| barn | meter-1 | is not plugged in |
| shed | pump-9 | is well, and runs what was published at barn |

barn refuses its configuration, and its disk is full; shed has no broker.
"""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.brokers import Mosquitto
from lab.desk import Desk, desk
from lab.small_disk import SmallDisk
from lab.web_process import WebProcess

from gatewayd.ota.keys import OtaKey

IMAGE = random.Random(17).randbytes(40_000)
# Bytes a second; the image takes more than a minute, which is far longer than the tests.
LAMP_RATE = 4000
LAMP_IMAGE = random.Random(18).randbytes(300_000)
# More than the reserve that the daemon gives up on a full disk.
TOO_LARGE = random.Random(19).randbytes(1_500_000)
SOMEBODY = OtaKey(bytes(range(1, 33)), bytes(range(2, 34)))


@dataclass(frozen=True)
class Scene:
    """Two gateways with their pages."""

    barn: Desk
    shed: Desk
    disk: SmallDisk
    pages: dict[str, WebProcess]

    def play(self) -> None:
        """Let everything happen; returns with the lamp on its way."""
        barn = self.barn
        barn.publish("pump", "4.3.2", IMAGE)
        barn.publish("gate", "4.3.2", IMAGE)
        barn.publish("valve", "4.3.2", IMAGE)
        barn.until_state("valve-1", "offered", latest_version="4.3.2")
        barn.publish("valve", "4.3.3", IMAGE)
        barn.until_state("valve-1", "offered", latest_version="4.3.3")
        barn.good("cancel", "valve-1")
        barn.publish("valve", "4.3.4", IMAGE)
        barn.until_state("valve-1", "offered", latest_version="4.3.4")
        self._publish_by_somebody()
        barn.until_state("tank-1", "refused")
        barn.until_state("pump-1", "succeeded")
        barn.until_state("gate-1", "failed")
        barn.publish("lamp", "4.3.2", LAMP_IMAGE)
        barn.until_state("lamp-1", "transferring")
        self._refuse_configuration()

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """Leave no room for the release that is published now, meanwhile."""
        with self.disk.filled():
            self.barn.publish("pump", "4.3.5", TOO_LARGE)
            self.barn.until(lambda: self.barn.json("devices", "devices")["trouble"], "the disk is full")
            yield

    def _publish_by_somebody(self) -> None:
        folder = self.barn.folder
        (folder / "somebody.key").write_bytes(SOMEBODY.to_file())
        (folder / "somebody.key").chmod(0o600)
        (folder / "rom.bin").write_bytes(IMAGE)
        out = folder / "somebody.ota"
        self.barn.good("pack", "--key", folder / "somebody.key", "-o", out, f"0x2000={folder / 'rom.bin'}")
        self.barn.gateway.publish(out, "4.3.2", "tank")

    def _refuse_configuration(self) -> None:
        good = (self.barn.folder / "config.yaml").read_text()
        (self.barn.folder / "config.yaml").write_text(good.replace("devices:", "divices:"))
        assert self.barn.run("reload").exit_code == 78
        (self.barn.folder / "config.yaml").write_text(good)  # `publish` reads it, too


@contextmanager
def a_scene(folder: Path) -> Iterator[Scene]:
    """Start two gateways with nothing to do, and their pages."""
    with ExitStack() as stack:
        for name in ("barn", "shed"):
            (folder / name).mkdir()
        barn = stack.enter_context(desk(folder / "barn"))
        shed = stack.enter_context(desk(folder / "shed", Mosquitto(folder / "shed" / "mosquitto")))
        disk = _start_barn(barn)
        _start_shed(shed)
        pages = {}
        for one in (barn, shed):
            pages[one.gateway.name] = page = WebProcess(one.folder)
            stack.callback(page.stop)
            page.start()
        yield Scene(barn, shed, disk, pages)


def _start_barn(barn: Desk) -> SmallDisk:
    barn.configure(
        barn.device("pump-1").config(),
        barn.device("lamp-1", rate=LAMP_RATE).config(),
        barn.device("valve-1").config(install="manual"),
        barn.device("tank-1").config(),
        barn.device("gate-1", break_after_activate=True).config(trial_s=2),
        {"name": "meter-1", "app_id": "meter", "version": "4.3.1"}
        | {"link": {"uart": str(barn.folder / "none")}},
    )
    disk = SmallDisk(barn)
    disk.start()
    for name in ("pump-1", "lamp-1", "valve-1", "tank-1", "gate-1"):
        barn.until_state(name, "idle")
    barn.until_state("meter-1", "unreachable")
    return disk


def _start_shed(shed: Desk) -> None:
    shed.gateway.name = shed.gateway.config["gateway"]["id"] = "shed"
    shed.configure(shed.device("pump-9", version="4.3.2").config())
    shed.start()
    shed.until_state("pump-9", "idle")
