"""Whether the servers can run: `python -m suites.smp` gets their images, or says why not and fails."""

import sys

import click
from lab.smp.images import shipped

from suites.bench.smp_server import Absent, require_programs

if __name__ == "__main__":
    try:
        require_programs()
        shipped()
    except Absent as why:
        click.echo(f"gatewayd: Zephyr's SMP servers cannot run here: {why}", err=True)
        sys.exit(1)
