"""A gateway with one chip, in a folder of its own: mosquitto, the daemon and QEMU, each a process."""

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.farm import KEY, Gateway, farm
from lab.history import judge
from lab.recorder import DeviceFiles, Tail, Witnesses

from gatewayd.ota.container import Rom, build, encrypt
from gatewayd.ota.patch import PatchEncoding, encode_patch
from suites.chip.board import Board
from suites.chip.chip import Chip
from suites.chip.flash import image

FIRST = "1.0.0"
LINE = "1.0"
# Dozens of times the longest update here.
UPDATE_LIMIT_S = 600.0


@dataclass(frozen=True, slots=True)
class Play:
    """What a scene is played with. `transfer_cuts`, `swap_cuts`: how often power is cut in all."""

    board: Board
    folder: Path
    chance: random.Random
    transfer_cuts: int
    swap_cuts: int


class Stage:
    """What a scene plays on. Images are published as versions 1.0.1, 1.0.2 and so on."""

    def __init__(self, board: Board, gateway: Gateway, chip: Chip, chance: random.Random) -> None:
        self.board = board
        self.gateway = gateway
        self.chip = chip
        self.chance = chance
        self.patch = 0
        self.published_image = b""
        self.witnesses = Witnesses(
            f"gatewayd-{gateway.name}",
            gateway.folder / "state",
            Tail.at_end(gateway.folder / "gatewayd.log"),
            Tail.at_end(gateway.broker.log_file),
            {"chip": DeviceFiles(Tail(chip.log), chip.state)},
        )

    @property
    def version(self) -> str:
        """The version that was published last."""
        return f"{LINE}.{self.patch}"

    async def publish(self, size: int, name: str = "") -> None:
        """Publish an image of the port's, filled up to `size`, as the next version."""
        name = name or self.board.first
        self.patch += 1
        await self.publish_image(image(self.board, name, self.version, size))

    async def publish_image(self, content: bytes) -> None:
        """Publish bytes as the version that is next, or that `publish` has made next."""
        self.patch = max(self.patch, 1)
        plain = build(
            [Rom(self.board.layout["IMAGE"], content)], 4_000_000_000_000 + self.patch * 60_000, KEY.seed
        )
        message = encode_patch(self.patch, PatchEncoding.VARINT) + encrypt(plain, KEY.stream_key)
        topic = f"/a/{self.board.app_id}/u/{LINE}"
        await self.gateway.send(topic, message)
        self.published_image = content
        self.witnesses.published(topic, message, self.version, content, "chip")

    async def succeed(self) -> dict[str, Any]:
        """Wait until what was published runs and is confirmed."""
        return await self._until("succeeded", installed_version=self.version)

    async def fail(self, code: str) -> dict[str, Any]:
        return await self._until("failed", code=code, latest_version=self.version)

    async def until_state(self, *states: str) -> None:
        await self.gateway.until(lambda: self._status.get("state") in states, f"one of {states}")

    async def end(self) -> None:
        """End everything in good order; assert what the chip runs, and that no promise was broken."""
        await asyncio.to_thread(self.witnesses.await_acknowledged)
        assert self.gateway.stop(signal.SIGTERM) == 0
        await asyncio.to_thread(self.witnesses.await_disconnect)
        await self.chip.power_off()
        self.witnesses.look()
        self.witnesses.conclude()
        violations = judge(self.witnesses.history)
        assert not violations, "; ".join(map(str, violations))

    def assert_runs(self, version: str) -> None:
        """Assert, after the end, what is in the running slot; byte by byte where it was published here."""
        found, content = self.chip.flash.running
        assert found == version, f"the chip runs {found}, not {version}"
        if version == self.version:
            assert content == self.published_image, f"{version} is not what was published"

    @property
    def _status(self) -> dict[str, Any]:
        return self.gateway.status.get("chip", {})

    async def _until(self, state: str, **wanted: str) -> dict[str, Any]:
        def reached() -> bool:
            self.chip.assert_lives()
            status = self._status
            return (wanted | {"state": state}).items() <= status.items()

        await self.gateway.until(reached, f"{state} {wanted}", UPDATE_LIMIT_S)
        return self._status


@contextlib.asynccontextmanager
async def stage(play: Play, name: str = "", **options: Any) -> AsyncIterator[Stage]:
    """Start everything with a chip that runs the image `name`; `options` are the chip's and `trial_s`."""
    trial_s = options.pop("trial_s", 600)
    board, folder = play.board, play.folder
    folder.mkdir()
    first = image(board, name or board.first, FIRST)
    async with farm(folder, "chip") as whole, Chip(folder, board, first, **options) as chip:
        whole.gateway.config["devices"] = [chip.config(trial_s=trial_s)]
        one = Stage(board, whole.gateway, chip, play.chance)
        whole.gateway.start()
        await one.until_state("idle")
        yield one
