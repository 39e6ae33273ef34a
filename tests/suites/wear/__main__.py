"""`make wear`: what each kind of wear costs the disk an hour, in virtual time."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from lab.jobs import VirtualLoop

from gatewayd.mqtt.connection import IncomingMessage
from suites.wear.kinds import DEVICES, Kind
from suites.wear.meter import metering_log
from suites.wear.strangers import MESSAGES, published

HOUR_S = 3600.0
LIMIT_BYTES = 1 << 20


def main() -> int:
    """Print a table; exit code 1 where a kind goes beyond the limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--only", action="append", default=[])
    options = parser.parse_args()
    kinds: dict[str, Kind] = DEVICES | {name: _published(made) for name, made in MESSAGES.items()}
    failed = False
    for name, kind in kinds.items():
        if options.only and name not in options.only:
            continue
        with (
            tempfile.TemporaryDirectory() as folder,
            metering_log() as log,
            asyncio.Runner(loop_factory=VirtualLoop) as runner,
        ):
            written = runner.run(kind(Path(folder), options.hours * HOUR_S))
        stored, logged = (size / options.hours for size in (written, log.written))
        failed |= stored + logged > LIMIT_BYTES
        print(f"{name:32} {stored / 1024:8.0f} KiB an hour, and {logged / 1024:6.0f} of log", flush=True)  # noqa: T201
    return int(failed)


def _published(made: Callable[[], Iterator[IncomingMessage]]) -> Kind:
    return lambda folder, seconds: published(folder, seconds, made())


if __name__ == "__main__":
    sys.exit(main())
