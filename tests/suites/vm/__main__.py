"""`make test-vm`: the daemon on the real stack, in two virtual machines that no network leads to.

One has BlueZ, with bumble as the radio and the devices, and nothing more than that needs. The other has
systemd, the package installed in it, and a USB port.
"""

import argparse
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from lab.deb import ROOT, the_package

from suites.vm import image
from suites.vm.image import FOLDER, Image
from suites.vm.machine import Machine
from suites.vm.report import Outcome

LIMIT_S = 1500.0
SYSTEMD = (
    "systemd.run=/src/tests/suites/vm/guest/installed",
    "systemd.run_success_action=poweroff",
    "systemd.run_failure_action=poweroff",
    "systemd.journald.forward_to_console=1",
)
MACHINES = (
    Machine("bluetooth", "/src/tests/suites/vm/guest/bare"),
    Machine("hotplug", "/usr/lib/systemd/systemd", " ".join(SYSTEMD), has_package=True),
)
NEEDED = ("gatewayd", "tests", "device/build", "pyproject.toml")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make test-vm", description=__doc__)
    parser.add_argument("--only", choices=[machine.name for machine in MACHINES])
    only = parser.parse_args().only
    machines = [machine for machine in MACHINES if only in (None, machine.name)]
    begun = time.monotonic()
    made = image.make()
    click.echo(f"the image is there: {time.monotonic() - begun:.0f} s")
    with ThreadPoolExecutor() as pool:
        outcomes = list(pool.map(lambda machine: run(machine, made), machines))
    for outcome in outcomes:
        click.echo(str(outcome))
    click.echo(f"{time.monotonic() - begun:.0f} s in all")
    return 0 if all(outcome.is_well for outcome in outcomes) else 1


def run(machine: Machine, made: Image) -> Outcome:
    out = FOLDER / machine.name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    if machine.has_package:
        shutil.copyfile(the_package(), out / "gatewayd.deb")
    begun = time.monotonic()
    status = machine.boot(made, project_for(machine), out, LIMIT_S)
    return Outcome(machine.name, out, status, time.monotonic() - begun)


def project_for(machine: Machine) -> Path:
    """Copy what a machine needs of the project; what its Python has compiled of the same files remains."""
    project = FOLDER / f"{machine.name}-project"
    for path in project.rglob("*.py"):
        path.unlink()
    for name in NEEDED:
        source, target = ROOT / name, project / name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    return project


if __name__ == "__main__":
    sys.exit(main())
