"""What is on the machine before it boots: a clean Debian 13, and what apt is going to want."""

import re
import shutil
import subprocess
from pathlib import Path

from lab.deb import ROOT, page_of

CACHE = ROOT / "build" / "trixie"
# What a fresh Debian has, as far as it matters here; whatever else gatewayd needs, apt has to find.
PACKAGES = ("ca-certificates", "dbus", "passwd", "systemd", "systemd-sysv")
# Not of the package, but of the tests in it.
LAB_PACKAGES = ("mosquitto",)
LAB = "root/lab"
_DOWNLOAD = """
mount --bind "$2/lists" "$1/var/lib/apt/lists"
mount --bind "$2/archives" "$1/var/cache/apt/archives"
mount -t proc proc "$1/proc"
cp --dereference --remove-destination /etc/resolv.conf "$1/etc/resolv.conf"
tree=$1
shift 2
chroot "$tree" apt-get update -q
chroot "$tree" apt-get install -q -y --download-only "$@"
"""


def make_tree(folder: Path, deb: Path, previous: Path) -> Path:
    """Return a Debian tree with both packages in /root/lab, which apt can install without a network."""
    archive = CACHE / "system.tar"
    subprocess.run([str(ROOT / ".ci" / "trixie"), str(archive), *PACKAGES], check=True)
    tree = folder / "tree"
    (tree / LAB).mkdir(parents=True)
    subprocess.run(["tar", "-xf", str(archive), "-C", str(tree), "--exclude=./dev/*"], check=True)
    # What dpkg syncs does not have to survive anything here.
    (tree / "etc" / "dpkg" / "dpkg.cfg.d" / "lab").write_text("force-unsafe-io\n")
    (tree / "etc" / "hostname").write_text("barn-pi\n")
    for place, package in (("new", deb), ("previous", previous), ("page", page_of(deb))):
        (tree / LAB / place).mkdir()
        shutil.copy(package, tree / LAB / place)
    _download(tree, f"/{LAB}/new/{deb.name}", f"/{LAB}/page/{page_of(deb).name}")
    return tree


def previous_package(deb: Path, folder: Path) -> Path:
    """Make the version before: the same, with a lower number and another text in the conffile."""
    unpacked = folder / "previous"
    subprocess.run(["dpkg-deb", "--raw-extract", deb, unpacked], check=True)
    control = unpacked / "DEBIAN" / "control"
    control.write_text(re.sub(r"(?m)^Version: .*$", "Version: 0.0.1", control.read_text(), count=1))
    conffile = unpacked / "etc" / "gatewayd" / "config.yaml"
    conffile.write_text(f"# This line is gone in the next version.\n{conffile.read_text()}")
    package = folder / "gatewayd_0.0.1_all.deb"
    command = ["dpkg-deb", "--root-owner-group", "--build", str(unpacked), str(package)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return package


def _download(tree: Path, *debs: str) -> None:
    """Let the tree's apt fetch what it is going to need; what was fetched before is kept for the next run."""
    cache = CACHE / "apt"
    for name in ("lists", "archives"):
        (cache / name / "partial").mkdir(parents=True, exist_ok=True)
    namespace: list[str | Path] = [
        "unshare",
        "--mount",
        "--fork",
        "--kill-child",
        "sh",
        "-euc",
        _DOWNLOAD,
        "sh",
    ]
    done = subprocess.run(
        [*namespace, tree, cache, *debs, *LAB_PACKAGES],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"apt cannot fetch what the package needs:\n{done.stdout}{done.stderr}"
    for name, place in (("lists", "var/lib/apt/lists"), ("archives", "var/cache/apt/archives")):
        shutil.copytree(cache / name, tree / place, dirs_exist_ok=True)
