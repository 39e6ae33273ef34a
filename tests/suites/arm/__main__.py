"""`make test-arm`: the package on the emulated processors of a Raspberry Pi, and an update of a device.

The whole gateway runs emulated: mosquitto, gatewayd, gatewayctl, Python and its libraries of that processor.
The device is the C receiver, outside and not emulated, on a pseudo-terminal of this machine. No systemd runs:
what it does is the same on each processor, and `make test-system` has it.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
from lab.deb import ROOT, page_of, the_package

from suites.system.machine import until
from suites.system.table import Table

# Debian's name -> the kernel's for what runs it (binfmt_misc).
EMULATORS = {"arm64": "qemu-aarch64", "armhf": "qemu-arm"}
BINFMT = Path("/proc/sys/fs/binfmt_misc")
CI = ROOT / ".ci"
RCP_DEVICE = ROOT / "device" / "build" / "rcp-device"
INSIDE = Path(__file__).with_name("inside.sh")
# Emulated, everything takes about ten times as long.
INSTALL_LIMIT_S = 900.0
UPDATE_LIMIT_S = 900.0


def main() -> int:
    """Return 0 if the update arrived on each."""
    parser = argparse.ArgumentParser(prog="make test-arm", description=__doc__)
    parser.add_argument("--only", choices=EMULATORS, action="append", help="one of them")
    options = parser.parse_args()
    if os.getuid() != 0:
        click.echo("gatewayd: only root can make these trees: sudo make test-arm", err=True)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # which clears everything away
    architectures = options.only or list(EMULATORS)
    table = Table()
    with table.row("this machine runs programs of other processors"):
        register()
    for architecture in architectures:
        if not table.has_failed:
            with tempfile.TemporaryDirectory(prefix=f"gatewayd-{architecture}-") as folder:
                run(architecture, Path(folder), table)
    table.sum_up(1 + 3 * len(architectures))
    return 1 if table.has_failed else 0


def register() -> None:
    """Let the kernel run them by qemu-user-static; it stays so."""
    if not (BINFMT / "status").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT], check=True)
    for emulator in EMULATORS.values():
        if not (BINFMT / emulator).exists():
            subprocess.run(["update-binfmts", "--enable", emulator], check=True)


def run(architecture: str, folder: Path, table: Table) -> None:
    """Install and update on one of them, until something fails."""
    tree = folder / "tree"
    with table.row(f"{architecture}: a clean Debian 13") as row:
        package = the_package()
        make_tree(architecture, package, tree)
        row.note = package.name
    if table.has_failed:
        return
    with table.row(f"{architecture}: the packages are installed") as row:
        row.note = inside(tree, "install", INSTALL_LIMIT_S)
    if table.has_failed:
        return
    with table.row(f"{architecture}: an update reaches the device") as row, device(tree):
        row.note = inside(tree, "update", UPDATE_LIMIT_S)
        image = (tree / "root" / "rom.bin").read_bytes()
        assert (tree / "root" / "device" / "active.bin").read_bytes() == image, "it runs something else"


def make_tree(architecture: str, package: Path, tree: Path) -> None:
    """Make a tree with what the packages depend on, and the packages in /root."""
    packages = (package, page_of(package))
    needed = {"mosquitto"}.union(*map(depends_of, packages)) - {"gatewayd"}
    archive = ROOT / "build" / "trixie" / f"{architecture}.tar"
    environment = os.environ | {"ARCH": architecture}
    subprocess.run([CI / "trixie", archive, *sorted(needed)], check=True, env=environment)
    tree.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", tree, "--exclude=./dev/*"], check=True)
    for file in (*packages, INSIDE):
        shutil.copy(file, tree / "root")


def depends_of(package: Path) -> set[str]:
    """Return the names of what a package depends on, of alternatives the first."""
    command = ["dpkg-deb", "--field", str(package), "Depends"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {re.split(r"[ :(|]", one.strip(), maxsplit=1)[0] for one in said.split(",")}


def inside(tree: Path, what: str, limit_s: float) -> str:
    """Run a part of inside.sh in the tree, with a loopback of its own; returns the last line it prints."""
    loopback = 'ip link set lo up; exec "$@"'
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sh", "-euc", loopback, "sh"]
    command += [str(CI / "inside"), "--network", str(tree), "sh", "-eu", f"/root/{INSIDE.name}", what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    assert done.returncode == 0, f"{what}: exit {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout.strip().splitlines()[-1]


@contextlib.contextmanager
def device(tree: Path) -> Iterator[None]:
    """Run the C receiver as `pump-1`, with its port in the tree: both see the same pseudo-terminals."""
    port, state = tree / "root" / "pump-1", tree / "root" / "device"
    flags = ("--app-id", "pump", "--version", "4.3.1", "--slot-address", "0x2000")
    process = subprocess.Popen([RCP_DEVICE, "--port", port, "--state", state, *flags, "--quiet"])
    try:
        until(port.is_symlink, "the device makes its port")
        yield
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
