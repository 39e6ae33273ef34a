"""`make test-system`: the package on a clean Debian 13, under a real systemd, and what is promised of it."""

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

import click
from lab.deb import the_package

from suites.system.checks import ALL, Check
from suites.system.machine import Machine
from suites.system.scene import Scene
from suites.system.table import Table
from suites.system.tree import make_tree, previous_package

JOURNAL_LINES = "120"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make test-system", description=__doc__)
    names = [check.__name__ for check in ALL]
    parser.add_argument("--until", metavar="CHECK", choices=names, help=f"the last one: {', '.join(names)}")
    options = parser.parse_args()
    if os.getuid() != 0:
        click.echo("gatewayd: only root can boot a system: sudo make test-system", err=True)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # which clears everything away
    checks = ALL[: names.index(options.until) + 1] if options.until else ALL
    table = Table()
    with tempfile.TemporaryDirectory(prefix="gatewayd-system-") as folder:
        run(Path(folder), checks, table)
    table.sum_up(len(checks) + 2)
    return 1 if table.has_failed else 0


def run(folder: Path, checks: tuple[Check, ...], table: Table) -> None:
    """Make the machine, and let the checks see it, until one fails."""
    with table.row("a clean Debian 13, and two versions of the package") as row:
        package = the_package()
        tree = make_tree(folder, package, previous_package(package, folder))
        row.note = package.name
    if table.has_failed:
        return
    scene = Scene(Machine(tree))
    scene.lay_out()
    try:
        with table.row("systemd boots"):
            scene.machine.boot()
        for check in checks:
            if table.has_failed:
                break
            with table.row(check.__doc__ or check.__name__) as row:
                row.note = check(scene)
        if table.has_failed:
            click.echo(scene.machine.last_words(JOURNAL_LINES))
    finally:
        scene.machine.end()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
