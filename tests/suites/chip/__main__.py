"""`make test-chip`: the port to a micro:bit in QEMU, with the real daemon and mosquitto."""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import click

from suites.chip.scenes import SCENES, Amounts, Scene

LIMIT_S = 240.0
# More for each cut than one takes, with all that comes after it.
CUT_LIMIT_S = 15.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="make test-chip", description=__doc__)
    parser.add_argument("--transfer-cuts", type=int, default=4)
    parser.add_argument("--swap-cuts", type=int, default=2)
    parser.add_argument("--only", action="append", choices=[_name(scene) for scene in SCENES])
    parser.add_argument("--jobs", type=int, default=2, help="scenes that play at once")
    parser.add_argument("--seed", type=int, help="the same places for the cuts, if not the same moments")
    options = parser.parse_args()
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    click.echo(f"seed {seed}")
    scenes = [scene for scene in SCENES if not options.only or _name(scene) in options.only]
    amounts = Amounts(options.transfer_cuts, options.swap_cuts)
    folder = Path(tempfile.mkdtemp(prefix="gatewayd-chip-"))
    failed = asyncio.run(_play(scenes, amounts, folder, seed, options.jobs))
    if failed:
        click.echo(
            f"{len(failed)} of {len(scenes)} scenes failed: {', '.join(failed)}; everything is in {folder}"
        )
        return 1
    shutil.rmtree(folder)
    return 0


async def _play(scenes: list[Scene], amounts: Amounts, folder: Path, seed: int, jobs: int) -> list[str]:
    """Play all, some at once; returns the names of those that failed."""
    turns = asyncio.Semaphore(jobs)
    failed = []

    async def play(scene: Scene) -> None:
        name = _name(scene)
        limit_s = LIMIT_S + CUT_LIMIT_S * (amounts.transfer_cuts + amounts.swap_cuts)
        async with turns:
            begun = time.monotonic()
            try:
                async with asyncio.timeout(limit_s):
                    what = await scene(folder / name, random.Random(f"{seed} {name}"), amounts)
            except (AssertionError, TimeoutError, OSError) as error:
                failed.append(name)
                what = f"FAILED: {error!r}"
            click.echo(f"{name:18} {time.monotonic() - begun:5.1f} s  {what}")

    await asyncio.gather(*map(play, scenes))
    return failed


def _name(scene: Scene) -> str:
    return scene.__name__.replace("_", "-")


if __name__ == "__main__":
    sys.exit(main())
