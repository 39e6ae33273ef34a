"""A virtual SMP device on a pty, in a process of its own: `python -m lab.smp.process --port PATH …`.

Its log has the same lines as a virtual RCP device's, and its folder the same files: what it runs and which
version that is. Its flash survives it.
"""

import argparse
import asyncio
import json
import math
import random
import signal
import sys
from pathlib import Path
from typing import Any

import click

from gatewayd.simulator.line import LineProfile
from gatewayd.simulator.smp.server import ServerProfile, SmpServer
from gatewayd.simulator.smp.slots import Slots, listed_image
from gatewayd.simulator.terminal import Terminal
from gatewayd.simulator.uart import VirtualUart, make_clock

from .recipes import Recipe, make_image

BAUD = 115_200
_PARTS = ("primary", "secondary", "old")
_ACTIVE, _FACTS = "active.bin", "device.json"


def load(state: Path, version: str) -> Slots:
    """Return the flash as it was left; of a new device: an image of that version, confirmed."""
    if not (state / _FACTS).exists():
        major, minor, patch = map(int, version.split("."))
        return Slots(make_image(Recipe((major, minor, patch, 0))))
    facts = json.loads((state / _FACTS).read_text())
    primary, secondary, old = ((state / f"{part}.bin").read_bytes() for part in _PARTS)
    return Slots(primary, secondary, old, is_pending=facts["is_pending"], is_confirmed=facts["is_confirmed"])


def version_of(content: bytes) -> str:
    """Return the version in a slot; empty if there is none yet."""
    image = listed_image(content)
    return image.version if image else ""


class Device:
    """What a VirtualUart drives; notes what becomes of it in its log and folder after each turn."""

    baud = BAUD

    def __init__(self, state: Path, flash: Slots, now: float, boot_s: float) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self._state, self._slots = state, flash
        self._server = SmpServer(flash, ServerProfile(boot_s=boot_s, reset_s=boot_s), now)
        self._seen = (flash.trials, flash.is_pending, len(flash.secondary), flash.is_confirmed)
        self._save()

    def receive_data(self, data: bytes, now: float) -> None:
        self._server.receive_data(data, now)
        self._note()

    def data_to_send(self, now: float) -> bytes:
        data = self._server.data_to_send(now)
        self._note()
        return data

    def next_deadline(self) -> float | None:
        due = self._server.next_deadline()
        return None if due == math.inf else due

    def handle_timeout(self, now: float) -> None:
        """Nothing: `data_to_send` does what is due."""

    def power_cut(self, now: float) -> None:
        self._server.cut_power(now)
        self._note()

    def _note(self) -> None:
        flash = self._slots
        seen = (flash.trials, flash.is_pending, len(flash.secondary), flash.is_confirmed)
        if seen == self._seen:
            return
        trials, was_pending, had, _ = self._seen
        self._seen = seen
        self._save()
        if flash.secondary and not had:
            click.echo(f"offer of {header_version(flash.secondary)}, {self._server.upload_size} bytes")
        if flash.is_pending and not was_pending:
            click.echo(f"activates {version_of(flash.secondary)}")
        if flash.trials > trials:
            click.echo(f"starts {version_of(flash.primary)} on trial")

    def _save(self) -> None:
        flash = self._slots
        for part in _PARTS:
            (self._state / f"{part}.bin").write_bytes(getattr(flash, part))
        (self._state / _ACTIVE).write_bytes(flash.primary)
        facts = {"version": version_of(flash.primary)}
        states = {"is_pending": flash.is_pending, "is_confirmed": flash.is_confirmed}
        (self._state / _FACTS).write_text(json.dumps(facts | states))


def header_version(content: bytes) -> str:
    """Return the version in an MCUboot header, of which the rest may be missing."""
    return f"{content[20]}.{content[21]}.{int.from_bytes(content[22:24], 'little')}"


async def run(options: argparse.Namespace) -> None:
    clock = make_clock()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    flash = load(options.state, options.version)
    device: Any = Device(
        options.state, flash, clock(), options.boot_ms / 1000
    )  # all that is asked of a receiver
    terminal = Terminal(options.port, BAUD)
    try:
        line = LineProfile(options.rate, options.latency_ms / 1000)
        await VirtualUart(device, terminal, line, clock=clock, rng=random.Random(1)).run(stop)
    finally:
        terminal.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="lab.smp.process", description=__doc__)
    parser.add_argument("--port", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--version", default="1.0.0")
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--boot-ms", type=float, default=200.0)
    options, _of_rcp = parser.parse_known_args()
    asyncio.run(run(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
