"""One update of one device by a forked daemon, with a broker that keeps nothing but the gateway's session.

The message is not retained and waits in the session: once it is acknowledged the broker has forgotten it, and a
gateway that has lost it will never see it again.
"""

import itertools
import os
import random
import shutil
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml
from brokers import CONNACK, CONNECT, DISCONNECT, PUBACK, SUBACK, SUBSCRIBE, Mosquitto, Packet, packet, publish_v5, text
from e2e_lab import VirtualDevice
from history import Violation, judge
from recorder import DeviceFiles, Tail, Witnesses, sha256_of

from sweep.forked import Daemon, Injection, trace

TOPIC = "/a/pump/u/4.3"
CALLS = ("mkdir", "openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "ftruncate")
DONE = r'"code": "up_to_date".*"event": "decision"'
NUMBERS = itertools.count(1)


def image_of(patch: int) -> bytes:
    return random.Random(patch).randbytes(12_000 + 100 * patch)


def message_of(patch: int) -> bytes:
    return bytes([patch]) + image_of(patch)


@dataclass
class Outcome:
    """What became of one point."""

    status: int
    violations: list[Violation]


class Scene:
    """A folder with a gateway's configuration and state, its device, and who watches them."""

    def __init__(self, folder: Path, broker: Mosquitto, name: str, version: str = "4.3.1") -> None:
        self.folder, self.broker, self.name = folder, broker, name
        folder.mkdir(parents=True, exist_ok=True)
        self.state_dir = folder / "state"
        self.device = VirtualDevice(folder, "pump-1", version=version, slot_address=0x2000, boot_ms=20)
        self.config = folder / "config.yaml"
        self._configure()
        self.witnesses = Witnesses(
            f"gatewayd-{name}",
            self.state_dir,
            Tail(folder / "gatewayd.log"),
            Tail(broker.log_file, broker.log_file.stat().st_size),
            {"pump-1": DeviceFiles(Tail(self.device.log), self.device.state)},
        )

    def _configure(self) -> None:
        device = self.device.config(payload="standard")
        del device["keys"]
        settings = {
            "gateway": {"id": self.name, "state_dir": "state", "control_socket": "control.sock"},
            "mqtt": {"host": "127.0.0.1", "port": self.broker.port},
            "devices": [device],
        }
        self.config.write_text(yaml.safe_dump(settings))

    def paths(self, *patches: int) -> list[Path]:
        """Every name that the store has for anything: strace knows files by name only."""
        names = [sha256_of(message_of(patch)) for patch in patches]
        spool = self.state_dir / "spool"
        files = [self.state_dir / f"gatewayd.db{suffix}" for suffix in ("", "-wal", "-shm", "-journal")]
        files += [self.state_dir, self.state_dir / "lock", spool, spool / "tmp"]
        return files + [folder / name for name in names for folder in (spool, spool / "tmp")]

    def let_wait(self, patch: int) -> None:
        """Publish a message into the gateway's session, as the broker would keep it while it is off."""
        with Client(self.broker.port, f"gatewayd-{self.name}") as session:
            session.subscribe(TOPIC)
        with Client(self.broker.port, f"publisher-{self.name}") as publisher:
            publisher.publish(TOPIC, message_of(patch))
        self.witnesses.await_disconnect()
        self.witnesses.published(TOPIC, message_of(patch), f"4.3.{patch}", image_of(patch), "pump-1")

    def start(self, patch: Callable[[], None] | None = None, *, stopped: bool = False) -> Daemon:
        return Daemon.start(self.config, self.folder / "gatewayd.log", patch, stopped=stopped)

    def close_life(self) -> None:
        self.witnesses.await_disconnect()
        self.witnesses.look()

    def run(self, injection: Injection | None, patch: Callable[[], None] | None = None) -> Outcome:
        """Run until the injected kill, then again until all is well; judge."""
        self.device.start()
        try:
            daemon = self.start(patch, stopped=True)
            strace = trace(daemon, self.paths(*range(2, 5)), CALLS, self.folder / "strace", injection)
            if daemon.until_log(DONE):
                daemon.end(signal.SIGTERM)
            status = daemon.end() if daemon.status is not None else daemon.wait()
            strace.wait()
            self.close_life()
            if not (early := judge(self.witnesses.history)):  # what is lost now never comes
                again = self.start()
                assert again.until_log(DONE), f"the daemon ended: {self.folder}"
                again.end()
                self.close_life()
                self.witnesses.conclude()
        finally:
            self.device.stop(signal.SIGKILL)
        return Outcome(status, early or judge(self.witnesses.history))


class Client:
    """The least of an MQTT 5 client, without threads: what forks must have none."""

    def __init__(self, port: int, client_id: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._file = self._socket.makefile("rb")
        lasting = b"\x05\x11" + (3600).to_bytes(4, "big")  # session expiry
        self._ask(packet(CONNECT, text("MQTT") + b"\x05\x00\x00\x3c" + lasting + text(client_id)), CONNACK)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.sendall(packet(DISCONNECT))
        self._file.close()
        self._socket.close()

    def subscribe(self, topic: str) -> None:
        self._ask(packet(SUBSCRIBE, b"\x00\x01\x00" + text(topic) + b"\x01", flags=2), SUBACK)

    def publish(self, topic: str, payload: bytes) -> None:
        self._ask(publish_v5(topic, payload, 1), PUBACK)

    def _ask(self, question: bytes, kind: int) -> None:
        self._socket.sendall(question)
        answer = self._read()
        assert answer.kind == kind, answer

    def _read(self) -> Packet:
        first, size, shift = self._file.read(1)[0], 0, 0
        while True:
            digit = self._file.read(1)[0]
            size |= (digit & 0x7F) << shift
            shift += 7
            if not digit & 0x80:
                return Packet(first >> 4, first & 15, self._file.read(size))
