"""`make soak`: updates for a time, while everything that may happen does; then the judge of histories."""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click

from suites.soak.barn import Barn

# What happens, and how often of a hundred times.
SHARES = {"publish": 40, "kill_daemon": 25, "cut_power": 20, "restart_broker": 8, "restart_daemon": 7}
# Seconds between two of them: from within a transfer's first frames to some time after its end.
PAUSE_S = (0.05, 2.0)
TOLD_EVERY_S = 60.0
# However short it is.
AT_LEAST = 6


def main() -> int:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument(
        "--seed", type=int, help="the same things in the same order, if not at the same moments"
    )
    options = parser.parse_args()
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    folder = Path(tempfile.mkdtemp(prefix="gatewayd-soak-"))
    click.echo(f"seed {seed}")
    barn = Barn(folder, seed)
    try:
        happened = soak(barn, options.seconds)
        violations = barn.judge()
    except BaseException:
        click.echo(f"everything is in {folder}")
        raise
    finally:
        barn.end()
    click.echo(report(barn, happened))
    for violation in violations:
        click.echo(str(violation))
    click.echo(f"{len(violations)} violations")
    if violations:
        click.echo(f"everything is in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def soak(barn: Barn, seconds: float) -> Counter[str]:
    """Let things happen; returns how often each did."""
    barn.start_daemon()
    barn.await_subscribed()
    happened: Counter[str] = Counter()
    begun = told = time.monotonic()
    while (now := time.monotonic()) - begun < seconds or happened.total() < AT_LEAST:
        (what,) = barn.chance.choices(list(SHARES), list(SHARES.values()))
        getattr(barn, what)()
        happened[what] += 1
        time.sleep(barn.chance.uniform(*PAUSE_S))
        if now - told >= TOLD_EVERY_S:
            told = now
            click.echo(f"{now - begun:.0f} s: {_counted(happened)}", err=True)
    return happened


def report(barn: Barn, happened: Counter[str]) -> str:
    """Return what was done, what became of it, and the daemon's memory at the end of its lives."""
    rss = barn.rss_mib
    return "\n".join(
        [
            f"{happened.total()} things happened: {_counted(happened)}",
            f"jobs: {_counted(Counter(barn.ends_of_jobs()))}",
            f"RSS of the daemon: {rss[0]:.1f} MiB first, {rss[-1]:.1f} MiB last, {max(rss):.1f} MiB most",
        ]
    )


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(main())
