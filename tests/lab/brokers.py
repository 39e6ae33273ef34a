"""Brokers for tests: a real mosquitto, amqtt in this process, and a scripted one that sees every packet."""

import asyncio
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Self

# Below those that Linux gives to outgoing connections (32768 and more).
FIRST_PORT, PORTS_EACH, WORKERS = 10_240, 1_400, 16
# Far beyond what anything here takes; what runs into it is broken.
DEADLINE_S = 60.0
ASKED_AGAIN_S = 1.0
MOSQUITTO = (
    shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/opt/homebrew/sbin") or "mosquitto"
)


def password_file(path: Path, passwords: dict[str, str]) -> Path:
    """Write what mosquitto's option of that name takes: users, and hashes of their passwords."""
    path.touch(0o600)
    path.write_text("".join(f"{user}:{password}\n" for user, password in passwords.items()))
    subprocess.run(["mosquitto_passwd", "-U", str(path)], check=True)
    path.chmod(0o600)
    return path


def _ports() -> Iterator[int]:
    """Yield ports that neither another worker of pytest takes nor the kernel for an outgoing connection."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = FIRST_PORT + worker % WORKERS * PORTS_EACH
    start = random.randrange(PORTS_EACH)
    yield from (first + (start + number) % PORTS_EACH for number in count())


_PORTS = _ports()


def free_port() -> int:
    """Return a port of 127.0.0.1 at which nobody listens, nor will unless a test lets somebody."""
    while True:
        port = next(_PORTS)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


class Mosquitto:
    """A mosquitto on a free port of 127.0.0.1; its files live in `folder`, and survive `stop` and `start`."""

    def __init__(self, folder: Path, *extra: str) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        usual = ["log_type all", "allow_anonymous true"]
        unsaid = [line for line in usual if not any(one.startswith(line.split()[0]) for one in extra)]
        (folder / "mosquitto.conf").write_text(
            "\n".join(
                [
                    f"listener {self.port} 127.0.0.1",
                    "log_dest stderr",
                    "user root",
                    *unsaid,
                    *extra,
                    "",
                ]
            )
        )

    def start(self) -> Self:
        with self.log_file.open("a") as log:
            self._process = subprocess.Popen(
                [MOSQUITTO, "-c", str(self._folder / "mosquitto.conf")], stderr=log, text=True
            )
        self._await_listening()
        return self

    def stop(self) -> None:
        # mosquitto loses a SIGTERM that comes between its listening and the first turn of its main loop.
        deadline = time.monotonic() + DEADLINE_S
        while self._process:
            self._process.terminate()
            try:
                self._process.wait(ASKED_AGAIN_S)
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline:
                    raise
            else:
                self._process = None

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(DEADLINE_S)
            self._process = None

    @property
    def log_file(self) -> Path:
        return self._folder / "log"

    def log(self) -> str:
        return self.log_file.read_text()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _await_listening(self) -> None:
        # The kernel refuses until mosquitto listens: ask again until it does or the process is gone.
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process is not None
            assert self._process.poll() is None, self.log()


@asynccontextmanager
async def amqtt_broker() -> AsyncIterator[int]:
    """Run an amqtt broker (MQTT 3.1.1 only) in this process; gives its port."""
    from amqtt.broker import Broker  # noqa: PLC0415 - Debian has none, and most tests do without

    port = free_port()
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    try:
        yield port
    finally:
        await broker.shutdown()


async def until(true: Callable[[], object], what: str = "") -> None:
    """Let the loop run until `true()`; no wall clock but the deadline."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not true():  # noqa: ASYNC110 - what is waited for is often in another process
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"waited in vain for {what or true}") from None


CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK = 1, 2, 3, 4, 8, 9, 10, 11
PINGREQ, PINGRESP, DISCONNECT = 12, 13, 14


@dataclass(frozen=True)
class Packet:
    kind: int
    flags: int
    body: bytes

    @property
    def packet_id(self) -> int:
        """Of SUBSCRIBE, UNSUBSCRIBE and PUBACK; PUBLISH has it after its topic."""
        at = 2 + int.from_bytes(self.body[:2], "big") if self.kind == PUBLISH else 0
        return int.from_bytes(self.body[at : at + 2], "big")

    @property
    def topic(self) -> str:
        """Of PUBLISH."""
        return self.body[2 : 2 + int.from_bytes(self.body[:2], "big")].decode()


def packet(kind: int, body: bytes = b"", flags: int = 0) -> bytes:
    size, length = len(body), bytearray()
    while True:
        size, digit = divmod(size, 128)
        length.append(digit | (0x80 if size else 0))
        if not size:
            return bytes([kind << 4 | flags]) + bytes(length) + body


def text(value: str) -> bytes:
    return len(value.encode()).to_bytes(2, "big") + value.encode()


def publish_v5(topic: str, payload: bytes, packet_id: int) -> bytes:
    return packet(PUBLISH, text(topic) + packet_id.to_bytes(2, "big") + b"\0" + payload, flags=2)


@dataclass
class Peer:
    """One client's connection to the scripted broker."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    packets: list[Packet] = field(default_factory=list)

    def send(self, *packets: bytes) -> None:
        self.writer.write(b"".join(packets))

    def of(self, kind: int) -> list[Packet]:
        return [packet for packet in self.packets if packet.kind == kind]

    def cut(self) -> None:
        self.writer.transport.abort()

    async def read(self) -> Packet:
        first = (await self.reader.readexactly(1))[0]
        size = shift = 0
        while True:
            digit = (await self.reader.readexactly(1))[0]
            size |= (digit & 0x7F) << shift
            shift += 7
            if not digit & 0x80:
                break
        received = Packet(first >> 4, first & 0x0F, await self.reader.readexactly(size))
        self.packets.append(received)
        return received


class ScriptedBroker:
    """Answers as MQTT 5 brokers do, unless `answers` says otherwise; keeps every packet it gets."""

    def __init__(self, answers: dict[int, Callable[[Peer, Packet], None]] | None = None) -> None:
        self.peers: list[Peer] = []
        self.port = 0
        self._answers: dict[int, Callable[[Peer, Packet], None]] = {
            CONNECT: lambda peer, _: peer.send(packet(CONNACK, b"\0\0\0")),
            PUBLISH: lambda peer, got: peer.send(packet(PUBACK, got.packet_id.to_bytes(2, "big"))),
            SUBSCRIBE: _grant,
            UNSUBSCRIBE: lambda peer, got: peer.send(packet(UNSUBACK, got.body[:2] + b"\0\0")),
            PINGREQ: lambda peer, _: peer.send(packet(PINGRESP)),
        } | (answers or {})

    def answer(self, answers: dict[int, Callable[[Peer, Packet], None]]) -> None:
        """Answer otherwise from now on."""
        self._answers |= answers

    @property
    def peer(self) -> Peer:
        """The latest connection."""
        return self.peers[-1]

    def all(self, kind: int) -> list[Packet]:
        return [got for peer in self.peers for got in peer.of(kind)]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for peer in self.peers:
            peer.cut()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.peers.append(peer)
        try:
            while True:
                got = await peer.read()
                if answer := self._answers.get(got.kind):
                    answer(peer, got)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            peer.cut()


def _grant(peer: Peer, got: Packet) -> None:
    # Packet id, properties (none), then topics with one byte of options each.
    at, count = 3, 0
    while at < len(got.body):
        at += 2 + int.from_bytes(got.body[at : at + 2], "big") + 1
        count += 1
    peer.send(packet(SUBACK, got.body[:2] + b"\0" + b"\1" * count))
