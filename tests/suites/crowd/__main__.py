"""`make crowd`: what 7 bad devices cost 25 healthy ones, as figures; 1 when a goal is missed.

A healthy device's efficiency is image bytes / (seconds from the first DATA sent to the last byte acknowledged
x rate), both as the daemon has them in its log. The loop's lag is the daemon's own, over its whole life.
"""

import asyncio
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
from lab.crowd import RATE, Bad, Crowd, Found, bad_devices
from lab.farm import farm

LEAST_EFFICIENCY = 0.95
MOST_LAG_MS = 100.0
MOST_GROWTH_MIB = 8.0


def misses(found: Found, bad: dict[str, Bad], image: bytes) -> Iterator[str]:
    """Yield the goals that were missed."""
    for name, seconds in found.seconds.items():
        efficiency = len(image) / (seconds * RATE)
        if efficiency < LEAST_EFFICIENCY:
            yield f"{name}: {efficiency:.1%} of the line rate, the goal is {LEAST_EFFICIENCY:.0%}"
        if found.images[name] != image:
            yield f"{name}: runs another image than was published"
    for name, one in bad.items():
        status, after_s = found.statuses[name], found.given_up_after_s[name]
        if (status["state"], status["code"]) != ("failed", one.code):
            yield f"{name}: {status['state']}, {status['code']}; expected failed, {one.code}"
        if after_s > one.limit_s:
            yield f"{name}: given up after {after_s:.0f} s, its limit is {one.limit_s:.0f} s"
    if found.lag["lag_p99_9_ms"] >= MOST_LAG_MS:
        yield f"loop lag p99.9 {found.lag['lag_p99_9_ms']} ms, the goal is below {MOST_LAG_MS:g} ms"
    growth = max(found.rss_mib) - found.rss_mib[0]
    if growth >= MOST_GROWTH_MIB:
        yield f"memory grew by {growth:.1f} MiB, the goal is below {MOST_GROWTH_MIB:g} MiB"


def report(found: Found, bad: dict[str, Bad], image: bytes) -> str:
    """Return the figures as two tables."""
    figures = [len(image) / (seconds * RATE) for seconds in found.seconds.values()]
    lag, rss = found.lag, found.rss_mib
    efficiency = f"{min(figures):.1%}, {statistics.median(figures):.1%}, {max(figures):.1%}"
    lags = f"{lag['lag_p50_ms']}, {lag['lag_p99_9_ms']}, {lag['lag_max_ms']} ms ({lag['samples']} samples)"
    rows = [
        f"| healthy devices, {RATE} bytes/s, {len(image)} bytes each | {len(figures)} |",
        f"| efficiency: lowest, median, highest | {efficiency} |",
        f"| image bytes sent again | {sum(found.repeated.values())} |",
        f"| loop lag: p50, p99.9, max | {lags} |",
        f"| memory: all under way, highest, at the end | {rss[0]:.1f}, {max(rss):.1f}, {rss[-1]:.1f} MiB |",
        f"| processor time of the daemon | {found.cpu_s:.1f} s in {found.elapsed_s:.0f} s |",
        f"| log | {found.log_bytes // 1024} KiB |",
    ]
    ends = [
        f"| {name} | {found.statuses[name]['code']} | {found.given_up_after_s[name]:.1f} |"
        f" {one.limit_s:.0f} | {found.statuses[name]['reason'].removeprefix(found.ports[name] + ': ')} |"
        for name, one in bad.items()
    ]
    return "\n".join(
        [
            "| | |\n|---|--:|",
            *rows,
            "\n| bad device | code | given up after (s) | limit (s) | reason |\n|---|---|--:|--:|---|",
            *ends,
        ]
    )


async def measure(image: bytes, attempts: int, every_s: float) -> tuple[Found, dict[str, Bad]]:
    """Run the crowd once."""
    bad = bad_devices(attempts, every_s)
    with tempfile.TemporaryDirectory(prefix="gatewayd-crowd-") as folder:
        async with farm(Path(folder)) as whole:
            return await Crowd(whole, bad).run(image), bad


@click.command()
@click.option("--size", default=288_000, show_default=True, help="Image bytes; 288,000 take 25 s.")
@click.option(
    "--attempts", default=3, show_default=True, help="Attempts at a bad device; one that restarts gets one."
)
@click.option("--every-s", default=3.0, show_default=True, help="How long a device that restarts stays up.")
def main(size: int, attempts: int, every_s: float) -> None:
    """Measure, print, judge."""
    image = random.Random(32).randbytes(size)
    found, bad = asyncio.run(measure(image, attempts, every_s))
    click.echo(report(found, bad, image))
    missed = list(misses(found, bad, image))
    for miss in missed:
        click.echo(f"missed: {miss}", err=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
