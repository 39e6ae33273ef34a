"""One gateway by a forked daemon, one device, and a broker that keeps nothing but the gateway's session.

The messages are not retained and wait in the session: once one is acknowledged the broker has forgotten it,
and a gateway that has lost it will never see it again. All scenes have the same topic, so a broker has one at
a time.
"""

import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import yaml
from lab.brokers import Mosquitto
from lab.damage import KINDS, MARK_MS, SPARE
from lab.farm import VirtualDevice
from lab.history import Looked, Violation, judge
from lab.recorder import DeviceFiles, Tail, Witnesses, look_into, sha256_of
from lab.smp.recipes import Recipe, make_image

from gatewayd.store.salvage import SUFFIXES
from suites.sweep.client import Client
from suites.sweep.forked import LIMIT_S, Daemon, Injection, trace
from suites.sweep.orders import Order

TOPIC = "/a/pump/u/4.3"
# Every call that changes something on the disk; `write` and `openat` also make the lock.
CALLS = ("mkdir", "openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "ftruncate")
# Of a store that has done all it will do.
QUIET_S = 0.2
READY = "gatewayd is ready"
TRANSFERRING = r'"event": "transfer"'
OFFERED = r'"event": "job made".*"offered"|"offered".*"event": "job made"'
CANCELLED = r'"code": "cancelled".*"event": "decision"'
# Those of all scenarios: their names in the spool are known beforehand.
PATCHES = (2, 3)
# A kill in mid-transfer needs one that lasts: 12 KB in half a second.
SLOW = 24_000


def image_of(patch: int) -> bytes:
    """Tell patches apart by size, too: the broker's log knows a message by nothing else.

    It has MCUboot's header, which SMP devices want and others take for a part of it.
    """
    return make_image(Recipe((4, 3, patch, 0), random.Random(patch).randbytes(12_000 + 100 * patch)))


def message_of(patch: int) -> bytes:
    return bytes([patch]) + image_of(patch)


def runs(patch: int) -> str:
    """What the log says when the device was heard to run a version."""
    return rf"(it runs|installed) 4\.3\.{patch}\b"


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a gateway has behind it, and what it finds when it starts.

    `before`: patches installed in earlier lives; `cut_off`: one whose transfer was killed; `offered`: one
    that waits for approval; `waiting`: patches in the broker's session; `order`: what a person wants then.
    `damage`: what happens to the database before the gateway starts. `protocol`: the device's.
    `last_words`: what the log says when all of it is dealt with; `final_words`: the same of the next life.
    Without them it is that the device runs the newest.
    """

    name: str
    waiting: tuple[int, ...] = ()
    before: tuple[int, ...] = ()
    cut_off: tuple[int, ...] = ()
    offered: tuple[int, ...] = ()
    order: str = ""
    pushed: tuple[int, ...] = ()
    damage: str = ""
    protocol: str = "rcp"
    last_words: str = ""
    final_words: str = ""

    @property
    def end_of_first_life(self) -> str:
        return self.last_words or self.end_of_second_life

    @property
    def end_of_second_life(self) -> str:
        patches = self.waiting + self.before + self.cut_off + self.offered + self.pushed
        return self.final_words or runs(max(patches))

    def words_of(self, patch: int) -> str:
        """What the log says when an earlier life may end."""
        if patch in self.cut_off:
            return TRANSFERRING
        return OFFERED if patch in self.offered else runs(patch)

    def order_for(self, device: str) -> Order | None:
        if not self.order:
            return None
        patch = max(self.pushed + self.offered)
        return Order(self.order, device, f"4.3.{patch}", image_of(patch), message_of(patch))


SCENARIOS = (
    Scenario("first", waiting=(2,)),
    Scenario("next", before=(2,), waiting=(3,)),
    Scenario("two", waiting=(2, 3)),
    Scenario("again", before=(2,), waiting=(2,), last_words="release is already here"),
    Scenario("older", before=(3,), waiting=(2,), last_words="not_newer"),
    Scenario("cut-off", cut_off=(2,)),
    Scenario("smp", waiting=(2,), protocol="smp"),
    Scenario("cut-off-and-next", cut_off=(2,), waiting=(3,)),
    Scenario("approve", offered=(2,), order="approve"),
    Scenario("cancel", offered=(2,), order="cancel", final_words=CANCELLED),
    Scenario("push", before=(2,), pushed=(3,), order="push"),
    Scenario("damage-noticed", before=(2,), damage="noticed"),
    Scenario("damaged-page", before=(2,), damage="a-page"),
    Scenario("damaged-page-and-next", before=(2,), waiting=(3,), damage="a-page"),
)


def damaged(state_dir: Path, kind: str) -> Looked:
    """Damage a database; return what was in it."""
    before = look_into(state_dir)
    assert before is not None
    KINDS[kind](state_dir)
    return replace(before, marks=before.marks | {(SPARE, MARK_MS)}, pauses=frozenset({SPARE}))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one point: the exit status as a shell says it, and what the judge found."""

    status: int
    violations: tuple[Violation, ...]


class Scene:
    """A folder with a gateway's configuration and state, its device, and who watches them."""

    def __init__(
        self,
        folder: Path,
        broker: Mosquitto,
        name: str,
        *,
        rate: int = 0,
        install: str = "auto",
        protocol: str = "rcp",
    ) -> None:
        self.folder, self.broker, self.name = folder, broker, name
        folder.mkdir(parents=True, exist_ok=True)
        self.state_dir = folder / "state"
        receiver = "smp" if protocol == "smp" else "c"
        self.device = VirtualDevice(folder, "pump-1", receiver, slot_address=0x2000, boot_ms=20, rate=rate)
        self.config = folder / "config.yaml"
        self.install = install
        self.protocol = protocol
        self._configure()
        self.witnesses = Witnesses(
            name,
            self.state_dir,
            Tail.at_end(folder / "gatewayd.log"),
            Tail.at_end(broker.log_file),
            {"pump-1": DeviceFiles(Tail.at_end(self.device.log), self.device.state)},
        )

    @classmethod
    def prepared(cls, folder: Path, broker: Mosquitto, scenario: Scenario) -> Self:
        """Make what a scenario begins with, but for what waits at the broker."""
        rate, install = SLOW if scenario.cut_off else 0, "manual" if scenario.offered else "auto"
        scene = cls(folder, broker, folder.name, rate=rate, install=install, protocol=scenario.protocol)
        with scene.running_device():
            for patch in scenario.before + scenario.cut_off + scenario.offered:
                scene.let_wait(patch)
                daemon = scene.start()
                assert daemon.until_log(scenario.words_of(patch)), folder
                daemon.end()
                scene.close_life()
        if scenario.damage:
            scene.witnesses.history.append(damaged(scene.state_dir, scenario.damage))
        scene.leave()
        return scene

    def copy(self, folder: Path, broker: Mosquitto) -> "Scene":
        """Return the same in another folder and at another broker."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("port-*", "*.sock"))
        copied = Scene(folder, broker, folder.name, install=self.install, protocol=self.protocol)
        copied.witnesses.remember(self.witnesses)
        return copied

    def _configure(self) -> None:
        device = self.device.config(payload="standard", install=self.install)
        del device["keys"]
        if self.protocol == "smp":
            device |= {"protocol": "smp", "smp": {"boot_s": 1}}
        settings = {
            "gateway": {"id": "sweep", "state_dir": "state", "control_socket": "control.sock"},
            "mqtt": {"host": "127.0.0.1", "port": self.broker.port, "client_id": self.name},
            "devices": [device],
        }
        self.config.write_text(yaml.safe_dump(settings))

    def paths(self, patches: Sequence[int]) -> list[Path]:
        """Every name that the store has for anything: strace knows files by name only."""
        names = [sha256_of(message_of(patch)) for patch in patches]
        spool = self.state_dir / "spool"
        files = [self.state_dir / f"gatewayd.db{suffix}" for suffix in SUFFIXES]
        files += [self.state_dir / f"gatewayd.db.new{suffix}" for suffix in SUFFIXES]
        files += [self.state_dir / name for name in ("gatewayd.db.rebuilt", "damaged", "quarantine")]
        files += [self.state_dir, self.state_dir / "lock", spool, spool / "tmp"]
        return files + [folder / name for name in names for folder in (spool, spool / "tmp")]

    def let_wait(self, *patches: int) -> None:
        """Publish into the gateway's session, as the broker would keep it while the gateway is off."""
        if not patches:
            return
        with Client(self.broker.port, self.name) as session:
            session.subscribe(TOPIC)
        with Client(self.broker.port, f"publisher-{self.name}") as publisher:
            for patch in patches:
                publisher.publish(TOPIC, message_of(patch))
        self.witnesses.await_disconnect()
        for patch in patches:
            self.witnesses.published(TOPIC, message_of(patch), f"4.3.{patch}", image_of(patch), "pump-1")

    def start(self, patch: Callable[[], None] | None = None, *, stopped: bool = False) -> Daemon:
        self._daemon = Daemon.start(self.config, self.folder / "gatewayd.log", patch, stopped=stopped)
        return self._daemon

    def close_life(self) -> None:
        self.witnesses.await_disconnect()
        self.witnesses.look()

    def run(
        self, scenario: Scenario, injection: Injection | None, patch: Callable[[], None] | None = None
    ) -> Outcome:
        """Run until the injected kill, then again until all is well; judge.

        What the daemon never gets to is a violation as well, by the name of `stuck`.
        """
        self.let_wait(*scenario.waiting)
        if order := scenario.order_for(self.device.name):
            order.publish(self.witnesses)
        status = 0
        stuck: tuple[Violation, ...] = ()
        with self.running_device():
            try:
                status = self._first_life(scenario, injection, patch)
                if not judge(self.witnesses.history):  # what is lost now never comes
                    self._second_life(scenario)
            except TimeoutError as error:
                stuck = (Violation("stuck", str(error)),)
                self._daemon.end()
                self.close_life()
        self.leave()
        return Outcome(status, (*judge(self.witnesses.history), *stuck))

    def leave(self) -> None:
        """Let the broker forget the gateway's session."""
        with Client(self.broker.port, self.name, lasts=False):
            pass

    def _first_life(
        self, scenario: Scenario, injection: Injection | None, patch: Callable[[], None] | None
    ) -> int:
        daemon = self.start(patch, stopped=True)
        strace = trace(daemon, self.paths(PATCHES), CALLS, self.folder / "strace", injection)
        is_done = self._give(scenario, daemon) and daemon.until_log(scenario.end_of_first_life)
        if is_done:
            self._await_quiet()
        status = daemon.end(signal.SIGTERM) if is_done else daemon.wait()
        strace.wait()
        self.close_life()
        return status

    def _await_quiet(self) -> None:
        """Return when the store has been left alone for a while: it tidies up after the last words."""
        trace, seen = self.folder / "strace", -1
        while (size := trace.stat().st_size) != seen:
            seen = size
            time.sleep(QUIET_S)

    def _second_life(self, scenario: Scenario) -> None:
        daemon = self.start()
        self.witnesses.await_acknowledged()
        is_done = self._give(scenario, daemon) and daemon.until_log(scenario.end_of_second_life)
        daemon.end()
        if not is_done:
            raise TimeoutError(f"the daemon ended by itself: {self.folder}")
        self.close_life()
        self.witnesses.conclude()

    def _give(self, scenario: Scenario, daemon: Daemon) -> bool:
        """Give the order if there is one; False when the daemon ended meanwhile."""
        order = scenario.order_for(self.device.name)
        if order is None:
            return True
        return daemon.until_log(READY) and order.give(self.folder / "control.sock", self.witnesses)

    @contextmanager
    def running_device(self) -> Iterator[None]:
        self.device.start()
        limit = time.monotonic() + LIMIT_S
        while not self.device.port.exists():  # else the daemon finds it a second later
            assert time.monotonic() < limit, self.device.log.read_text()
            time.sleep(0.002)
        try:
            yield
        finally:
            self.device.stop(signal.SIGKILL)
