"""A clean Debian 12 with a copy of this tree in /root/gatewayd, and beside it what pip would fetch."""

import os
import subprocess
from pathlib import Path

from lab.deb import ROOT, quietly

# Debian 12 as it is, what `make install` asks for, what the update in it takes, and a reader of manual pages.
PACKAGES = (
    "dbus",
    "gcc",
    "libc6-dev",
    "make",
    "man-db",
    "mosquitto",
    "passwd",
    "python3-venv",
    "systemd",
    "systemd-sysv",
)
CLONE = "root/gatewayd"
WHEELS = "root/wheels"
_FETCH = f"""
python3 -m venv /root/pip
/root/pip/bin/pip wheel --quiet --wheel-dir /{WHEELS} '/{CLONE}[web]' hatchling hatch-fancy-pypi-readme
rm -r /root/pip /{WHEELS}/gatewayd-*
"""


def make_tree(folder: Path) -> Path:
    """Return the tree. Whatever else is wanted of a network, it has not."""
    archive = ROOT / "build" / "trixie" / "install.tar"
    ci = ROOT / ".ci"
    subprocess.run([ci / "trixie", archive, *PACKAGES], check=True, env=os.environ | {"DEBIAN": "bookworm"})
    tree = folder / "tree"
    tree.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", tree, "--exclude=./dev/*"], check=True)
    quietly([str(ci / "copy"), str(tree / CLONE)])
    quietly([str(ci / "inside"), "--network", str(tree), "sh", "-euc", _FETCH])
    (tree / "etc" / "hostname").write_text("barn-pi\n")
    (tree / "etc" / "hosts").write_text("127.0.0.1 localhost\n")
    return tree
