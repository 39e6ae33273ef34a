"""The benchmark's peer: absent with the reason where it cannot run, and on a line like RCP's where it can."""

import asyncio
import contextlib
import os
import random
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab.brokers import until

from gatewayd.simulator.line import LineProfile
from gatewayd.simulator.terminal import Terminal
from suites.bench import smp_peer, smp_server
from suites.bench.paced_relay import PacedRelay
from suites.bench.section import Scale
from suites.bench.smp_server import Absent, fetch, find, require_programs, verified

BOOTLOADER = "zephyr_1_mps2_an385_serial_recovery_buf1024.hex"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / BOOTLOADER).write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "SHA256SUMS").write_text(f"{digest}  {BOOTLOADER}\n")
    return tmp_path


async def test_without_its_programs_the_peer_is_reported_as_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smp_server, "PROGRAMS", ("no-such-emulator",))
    document = await smp_peer.run(Scale())
    assert document == {"absent": "no-such-emulator is not installed"}
    assert smp_peer.table(document) == "absent: no-such-emulator is not installed"


def test_nobody_is_asked_for_only_by_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smp_server, "PROGRAMS", ())
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Absent, match="root"):
        require_programs()


def test_a_distribution_that_cannot_be_had_is_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(*command: object, **_: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess([str(command)], 1)

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(Absent, match="pip cannot get"):
        fetch(tmp_path)


def test_another_distribution_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / smp_server.SDIST).write_bytes(b"something else")
    with pytest.raises(Absent, match="SHA-256"):
        fetch(tmp_path)
    assert not (tmp_path / "smp-server").exists()


def test_a_spoilt_image_does_not_run(images: Path) -> None:
    assert verified(images, BOOTLOADER) == b"abc"
    (images / BOOTLOADER).write_bytes(b"abd")
    with pytest.raises(Absent, match="SHA-256"):
        verified(images, BOOTLOADER)


def test_an_image_that_is_not_there_is_absent(images: Path) -> None:
    assert find(images, 1024)[0] == BOOTLOADER
    with pytest.raises(Absent, match="2048"):
        find(images, 2048)


def test_failed_uploads_are_counted_and_never_become_figures() -> None:
    assert smp_peer.row(1024, 11520, [None, 5760.0]) == {
        "buffer": 1024,
        "rate": 11520,
        "latency_ms": 5,
        "failed_runs": 1,
        "bytes_per_s": 5760,
        "lowest": 5760,
        "highest": 5760,
        "efficiency": 0.5,
    }
    failed = smp_peer.row(1024, 11520, [None])
    assert "efficiency" not in failed
    assert smp_peer.table([failed]).splitlines()[-1] == "| 1024 | 11520 | 5 | 1 |  |  |  |  |"


@pytest.fixture
def far() -> Iterator[tuple[socket.socket, socket.socket]]:
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    yield ends
    for end in ends:
        end.close()


@pytest.mark.parametrize("rate", [0, 92160])
async def test_the_relay_carries_every_byte_both_ways(
    tmp_path: Path, far: tuple[socket.socket, socket.socket], rate: int
) -> None:
    near, server = far
    content, loop = random.Random(1).randbytes(3000), asyncio.get_running_loop()
    with _pty(tmp_path / "port") as (terminal, client):
        relay = asyncio.create_task(PacedRelay(terminal, near, LineProfile(rate, 0.005), loop.time).run())
        os.write(client, content)
        await loop.sock_sendall(server, content)
        assert await _heard(lambda: server.recv(4096), len(content)) == content
        assert await _heard(lambda: os.read(client, 4096), len(content)) == content
        server.close()
        await relay


async def test_bytes_are_on_the_relays_line_until_their_time_has_come(
    tmp_path: Path, far: tuple[socket.socket, socket.socket]
) -> None:
    near, server = far
    now = 0.0
    with _pty(tmp_path / "port") as (terminal, client):
        line = LineProfile(rate_bytes_per_s=100, latency_s=5.0)
        relay = asyncio.create_task(PacedRelay(terminal, near, line, lambda: now).run())
        os.write(client, b"x")
        for _ in range(20):
            await asyncio.sleep(0)
        with pytest.raises(BlockingIOError):
            server.recv(1)
        now = 6.0
        os.write(client, b"y")  # wakes it
        assert await _heard(lambda: server.recv(1), 1) == b"x"
        server.close()
        await relay


@contextlib.contextmanager
def _pty(path: Path) -> Iterator[tuple[Terminal, int]]:
    terminal = Terminal(path, 115200)
    client = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        yield terminal, client
    finally:
        os.close(client)
        terminal.close()


async def _heard(read: Callable[[], bytes], size: int) -> bytes:
    found = bytearray()

    def is_whole() -> bool:
        with contextlib.suppress(BlockingIOError):
            found.extend(read())
        return len(found) >= size

    await until(is_whole, f"{size} bytes")
    return bytes(found)
