"""A gateway, its broker and its devices, with everything that may happen to them; each is a process.

Messages are not retained: what is acknowledged is gone from the broker. It keeps sessions on disk and is
restarted in good order: how durable a broker is that dies is not gatewayd's promise.
"""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from lab.brokers import Mosquitto
from lab.farm import KEY, Gateway, VirtualDevice
from lab.history import ENDED, Looked, Violation, judge
from lab.recorder import DeviceFiles, Tail, Witnesses

from gatewayd.control.client import DaemonUnreachable, ask
from gatewayd.control.messages import DevicesResult, DeviceView
from gatewayd.control.requests import Devices
from gatewayd.ota.container import Rom, build, encrypt
from gatewayd.ota.patch import PatchEncoding, encode_patch
from suites.bench.daemons import memory_mib
from suites.sweep.client import Client

SLOT = 0x2000
RATE = 92_160
FLIPS = 1e-5
LIMIT_S = 120.0
# App and how many devices have it: one message for two, and one for another.
APPS = {"pump": 2, "tank": 1}


class Barn:
    """What the soak does things to."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        folder.mkdir(parents=True, exist_ok=True)
        location = folder / "kept"
        location.mkdir()
        self.broker = Mosquitto(
            folder / "mosquitto", "persistence true", f"persistence_location {location}/"
        ).start()
        self.gateway = Gateway(folder, self.broker)
        self.devices = {
            name: _device(folder, app, name)
            for app, amount in APPS.items()
            for name in (f"{app}-{number}" for number in range(1, amount + 1))
        }
        self.gateway.config["keys"]["k"]["allow_shared_key"] = True
        self.gateway.config["devices"] = [device.config() for device in self.devices.values()]
        self.witnesses = Witnesses(
            f"gatewayd-{self.gateway.name}",
            folder / "state",
            Tail.at_end(folder / "gatewayd.log"),
            Tail.at_end(self.broker.log_file),
            {name: DeviceFiles(Tail(one.log), one.state) for name, one in self.devices.items()},
        )
        self.patches = dict.fromkeys(APPS, 1)
        self.rss_mib: list[float] = []

    # -- what happens

    def publish(self) -> None:
        """Publish the next version of an app; images are of 5 to 60 KB, each of a size of its own."""
        app = self.chance.choice(list(APPS))
        self.patches[app] += 1
        patch = self.patches[app]
        size = self.chance.randrange(5, 60) * 1024 + patch
        image, topic = self.chance.randbytes(size), f"/a/{app}/u/4.3"
        # A build a minute: the timestamp is what orders signed firmware.
        plain = build([Rom(SLOT, image)], 4_000_000_000_000 + patch * 60_000, KEY.seed)
        message = encode_patch(patch, PatchEncoding.VARINT) + encrypt(plain, KEY.stream_key)
        with Client(self.broker.port, "publisher") as client:
            client.publish(topic, message)
        mine = [name for name in self.devices if name.startswith(app)]
        self.witnesses.published(topic, message, f"4.3.{patch}", image, *mine)

    def kill_daemon(self) -> None:
        """SIGKILL, and start it again."""
        self._end_life(signal.SIGKILL)
        self.start_daemon()

    def restart_daemon(self) -> None:
        """SIGTERM, and start it again."""
        self._end_life(signal.SIGTERM)
        self.start_daemon()

    def restart_broker(self) -> None:
        """Stop mosquitto in good order, and start it with what it has kept."""
        self.broker.stop()
        self.witnesses.broker_stopped()
        self.broker.start()

    def cut_power(self) -> None:
        """End a device in whatever it does, and give it power again."""
        device = self.chance.choice(list(self.devices.values()))
        device.stop(signal.SIGKILL)
        device.start()

    # -- begin and end

    def start_daemon(self) -> None:
        """Return once it answers on its control socket."""
        self.gateway.start()
        self._until(self._views, "an answer on the control socket")

    def await_subscribed(self) -> None:
        """Return once the broker keeps messages for the gateway."""
        self._until(lambda: len(self.gateway.log_events("subscribed")) > 0, "the subscription")

    def settle(self) -> None:
        """Return once every message is acknowledged and no update is under way."""
        self._until(lambda: self._views() and all(self._is_settled(view) for view in self._views()), "rest")

    def judge(self) -> list[Violation]:
        """End everything, and judge it."""
        self.witnesses.await_acknowledged()
        self.settle()
        self._end_life(signal.SIGTERM)
        self.end()
        self.witnesses.conclude()
        return judge(self.witnesses.history)

    def end(self) -> None:
        """End each process."""
        if self.gateway.process is not None and self.gateway.process.poll() is None:
            self.gateway.stop(signal.SIGKILL)
        for device in self.devices.values():
            device.stop()
        self.broker.stop()

    def ends_of_jobs(self) -> dict[str, int]:
        """Return how many of the jobs seen ended in which way, by state or, where it failed, code."""
        jobs = {
            job.id: job for look in self.witnesses.history if isinstance(look, Looked) for job in look.jobs
        }
        ends = [job.code if job.state == "failed" else job.state for job in jobs.values()]
        return {end: ends.count(end) for end in sorted(set(ends))}

    def _end_life(self, number: int) -> None:
        self._assert_runs()
        self.rss_mib.append(memory_mib(self.gateway, "VmRSS"))
        self.gateway.stop(number)
        self.witnesses.await_disconnect()
        self.witnesses.look()

    def _assert_runs(self) -> None:
        assert self.gateway.process is not None
        assert self.gateway.process.poll() is None, f"the daemon ended by itself: {self.gateway.folder}"

    def _views(self) -> tuple[DeviceView, ...]:
        try:
            return ask(self.gateway.folder / "control.sock", Devices(), DevicesResult).devices
        except DaemonUnreachable:
            return ()

    def _is_settled(self, view: DeviceView) -> bool:
        newest = f"4.3.{self.patches[view.app_id]}"
        return view.installed_version == newest or (view.latest_version == newest and view.state in ENDED)

    def _until(self, reached: Callable[[], object], what: str) -> None:
        limit = time.monotonic() + LIMIT_S
        while not reached():
            self._assert_runs()
            assert time.monotonic() < limit, f"waited in vain for {what}: {self._views()}"
            time.sleep(0.05)


def _device(folder: Path, app: str, name: str) -> VirtualDevice:
    return VirtualDevice(
        folder, name, app_id=app, slot_address=SLOT, rate=RATE, flip_rate=FLIPS, boot_ms=50
    ).start()
