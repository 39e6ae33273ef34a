"""`make flood`: a stranger's flood of small QoS 0 messages, with goals; 1 when one is missed.

A real mosquitto, the daemon, a virtual device. During the flood the daemon's memory is looked at; after it a
genuine release is published and must be installed.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from lab.farm import Farm, farm, image_of
from lab.tree import with_tests_on_path

from suites.bench.daemons import cpu_s, memory_mib

TOPIC = "/a/pump/u/4.3"
MIB = 1024 * 1024
MOST_RSS_MIB = 120.0
MOST_LOG_MIB = 2.0
MOST_INSTALL_S = 30.0
# Then it is given up.
INSTALL_LIMIT_S = 200.0


@dataclass(frozen=True)
class Figures:
    """What a flood cost."""

    sent: int
    seconds: float
    idle_mib: float
    peak_mib: float
    log_bytes: int
    dropped: int
    installed_s: float | None  # None: it was given up
    cpu_s: float = 0.0


def misses(found: Figures) -> Iterator[str]:
    """Yield the goals that were missed."""
    if found.peak_mib >= MOST_RSS_MIB:
        yield f"memory {found.peak_mib:.1f} MiB, the goal is below {MOST_RSS_MIB:g}"
    if found.log_bytes >= MOST_LOG_MIB * MIB:
        yield f"log {found.log_bytes / MIB:.2f} MiB, the goal is below {MOST_LOG_MIB:g}"
    if found.installed_s is None or found.installed_s > MOST_INSTALL_S:
        took = "never" if found.installed_s is None else f"after {found.installed_s:.1f} s"
        yield f"the genuine release was installed {took}, the goal is {MOST_INSTALL_S:g} s"


def report(found: Figures) -> str:
    """Return the figures as a table."""
    installed = "never" if found.installed_s is None else f"{found.installed_s:.1f} s"
    rate = found.sent / found.seconds
    rows = [
        (
            "messages sent",
            f"{found.sent} in {found.seconds:.1f} s, {rate:.0f} a second",
        ),
        ("dropped by gatewayd, as its log says", str(found.dropped)),
        ("memory: idle, peak (goal 120)", f"{found.idle_mib:.1f}, {found.peak_mib:.1f} MiB"),
        ("processor time of the daemon", f"{found.cpu_s:.1f} s"),
        ("log (goal 2 MiB)", f"{found.log_bytes / 1024:.0f} KiB"),
        (f"a genuine release after it, installed in (goal {MOST_INSTALL_S:g} s)", installed),
    ]
    return "\n".join(["| | |", "|---|--:|", *(f"| {name} | {value} |" for name, value in rows)])


async def flood(whole: Farm, rate: int, seconds: float) -> Figures:
    """Flood the topic of a device, then publish for it."""
    gateway, device = whole.gateway, whole.device("pump-1")
    gateway.config["devices"] = [device.config()]
    gateway.start()
    await gateway.until_state("pump-1", "idle", code="no_release")
    container = gateway.pack(image_of(1, 20_000))
    idle_mib, log_before = memory_mib(gateway, "VmHWM"), _log_bytes(whole)
    flooder = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "suites.flood.flooder", str(gateway.broker.port), TOPIC, str(rate), str(seconds)),
        env=with_tests_on_path(),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await flooder.communicate()
    sent, took = said.split()
    begun = time.monotonic()
    await asyncio.to_thread(gateway.publish, container, "4.3.2")
    installed_s = None
    try:
        await gateway.until(
            lambda: gateway.status.get("pump-1", {}).get("state") == "succeeded",
            limit_s=INSTALL_LIMIT_S,
        )
        installed_s = time.monotonic() - begun
    except AssertionError as error:
        sys.stderr.write(f"{error}\n")
    dropped = sum(
        entry["messages"]
        for entry in gateway.log_events(
            "messages with QoS 0 dropped: they came faster than they can be handled"
        )
    )
    return Figures(
        sent=int(sent),
        seconds=float(took),
        idle_mib=idle_mib,
        peak_mib=memory_mib(gateway, "VmHWM"),
        log_bytes=_log_bytes(whole) - log_before,
        dropped=dropped,
        installed_s=installed_s,
        cpu_s=cpu_s(gateway),
    )


async def measure(rate: int, seconds: float) -> Figures:
    """Run it once, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="gatewayd-flood-") as folder:
        async with farm(Path(folder)) as whole:
            return await flood(whole, rate, seconds)


def _log_bytes(whole: Farm) -> int:
    return (whole.folder / "gatewayd.log").stat().st_size


@click.command()
@click.option("--rate", default=40_000, show_default=True, help="Messages a second.")
@click.option("--seconds", default=20.0, show_default=True)
def main(rate: int, seconds: float) -> None:
    """Flood a gateway and print what that cost."""
    found = asyncio.run(measure(rate, seconds))
    click.echo(report(found))
    missed = list(misses(found))
    for miss in missed:
        click.echo(f"missed: {miss}", err=True)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
