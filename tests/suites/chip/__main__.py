"""`make test-chip`: ports of the receiver on boards that QEMU emulates, with the daemon and mosquitto."""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import click

from suites.chip.board import MICROBIT, MPS2, RISCV
from suites.chip.scenes import SCENES, SCENES_OF_ANY_PORT, Scene
from suites.chip.stage import Play

BOARDS = {MICROBIT.app_id: (MICROBIT, SCENES)} | {
    board.app_id: (board, SCENES_OF_ANY_PORT) for board in (RISCV, MPS2)
}
LIMIT_S = 900.0
# More for each cut than one takes, with all that comes after it.
CUT_LIMIT_S = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="make test-chip", description=__doc__)
    parser.add_argument("--transfer-cuts", type=int, default=4)
    parser.add_argument("--swap-cuts", type=int, default=2)
    parser.add_argument("--board", choices=list(BOARDS), default=MICROBIT.app_id)
    parser.add_argument("--only", action="append", choices=[_name(scene) for scene in SCENES])
    parser.add_argument("--jobs", type=int, default=2, help="scenes that play at once")
    parser.add_argument("--seed", type=int, help="the same places for the cuts, if not the same moments")
    options = parser.parse_args()
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    click.echo(f"seed {seed}")
    board, scenes_of_board = BOARDS[options.board]
    scenes = [scene for scene in scenes_of_board if not options.only or _name(scene) in options.only]
    folder = Path(tempfile.mkdtemp(prefix="gatewayd-chip-"))
    plays = {
        scene: Play(
            board,
            folder / _name(scene),
            random.Random(f"{seed} {_name(scene)}"),
            options.transfer_cuts,
            options.swap_cuts,
        )
        for scene in scenes
    }
    failed = asyncio.run(_play(plays, options.jobs))
    if failed:
        click.echo(
            f"{len(failed)} of {len(scenes)} scenes failed: {', '.join(failed)}; everything is in {folder}"
        )
        return 1
    shutil.rmtree(folder)
    return 0


async def _play(plays: dict[Scene, Play], jobs: int) -> list[str]:
    """Play all, some at once; returns the names of those that failed."""
    turns = asyncio.Semaphore(jobs)
    failed = []

    async def play(scene: Scene, what_with: Play) -> None:
        name = _name(scene)
        limit_s = LIMIT_S + CUT_LIMIT_S * (what_with.transfer_cuts + what_with.swap_cuts)
        async with turns:
            begun = time.monotonic()
            try:
                async with asyncio.timeout(limit_s):
                    what = await scene(what_with)
            except (AssertionError, TimeoutError, OSError) as error:
                failed.append(name)
                what = f"FAILED: {error!r}"
            click.echo(f"{name:18} {time.monotonic() - begun:5.1f} s  {what}")

    await asyncio.gather(*(play(*item) for item in plays.items()))
    return failed


def _name(scene: Scene) -> str:
    return scene.__name__.replace("_", "-")


if __name__ == "__main__":
    sys.exit(main())
