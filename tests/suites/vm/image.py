"""The virtual machine's disk, made once: Debian 13 with its kernel, BlueZ, and gatewayd's dependencies.

From PyPI come bumble, which is the radio, and the newest bleak, each in a folder of its own: the daemon does
not see them unless it is told to.
"""

import gzip
import hashlib
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.deb import ROOT, quietly

FOLDER = ROOT / "build" / "vm"
INIT = Path(__file__).parent / "guest" / "initrd"
SIZE = "800M"

MACHINE = (
    "linux-image-amd64",
    "busybox-static",
    "systemd-sysv",
    "udev",
    "dbus",
    "bluez",
    "mosquitto",
    "socat",
)
DEPENDENCIES = (
    "python3-asyncio-mqtt",
    "python3-bleak",
    "python3-click",
    "python3-cryptography",
    "python3-dbus-fast",
    "python3-nacl",
    "python3-prometheus-client",
    "python3-pydantic",
    "python3-rich",
    "python3-serial",
    "python3-serial-asyncio",
    "python3-structlog",
    "python3-yaml",
)
TESTS = ("python3-pytest", "python3-pytest-asyncio", "python3-pytest-timeout")
PACKAGES = (*MACHINE, *DEPENDENCIES, *TESTS)
FROM_PYPI = {"bumble": "bumble>=0.0.200", "bleak-newest": "bleak"}
# What the kernel needs to get at the disk and at the shared folders.
FIRST_MODULES = ("virtio_blk", "ext4", "9pnet_virtio", "9p")


@dataclass(frozen=True)
class Image:
    """What QEMU boots."""

    kernel: Path
    initrd: Path
    disk: Path


def make() -> Image:
    """Return the image, made anew when anything has changed that it is made of."""
    image = Image(FOLDER / "vmlinuz", FOLDER / "initrd", FOLDER / "disk")
    stamp = FOLDER / "made-of"
    inputs = hashlib.sha256(Path(__file__).read_bytes() + INIT.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != inputs:
        if os.geteuid():
            raise SystemExit("gatewayd: the virtual machine's disk is made as root: sudo make test-vm")
        FOLDER.mkdir(parents=True, exist_ok=True)
        stamp.unlink(missing_ok=True)
        with _tree() as tree:
            _add_from_pypi(tree)
            _make(image, tree)
        stamp.write_text(inputs)
    return image


@contextmanager
def _tree() -> Iterator[Path]:
    """Unpack the distribution. Its kernel comes without an initrd: making one takes as long as all else."""
    tarball = FOLDER / "trixie.tar"
    trixie = [str(ROOT / ".ci" / "trixie"), str(tarball), *PACKAGES]
    quietly(trixie, INITRD="No")
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        quietly(["tar", "-xf", str(tarball), "-C", folder])
        yield Path(folder)


def _add_from_pypi(tree: Path) -> None:
    """Install for the image's Python, which is another one than ours."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--only-binary=:all:", "--python-version=3.13", "--implementation=cp"]
    pip += ["--platform=manylinux_2_28_x86_64", "--platform=manylinux2014_x86_64"]
    for folder, requirement in FROM_PYPI.items():
        target = tree / "opt" / folder
        quietly([*pip, "--target", str(target), requirement])
    quietly(["chroot", str(tree), "python3", "-m", "compileall", "-q", "/opt"])


def _make(image: Image, tree: Path) -> None:
    (kernel,) = (tree / "boot").glob("vmlinuz-*")
    shutil.copyfile(kernel, image.kernel)
    _make_initrd(image.initrd, tree, kernel.name.removeprefix("vmlinuz-"))
    image.disk.unlink(missing_ok=True)
    mke2fs = [
        "mke2fs",
        "-q",
        "-F",
        "-t",
        "ext4",
        "-O",
        "^has_journal",
        "-m0",
        "-d",
        str(tree),
        str(image.disk),
        SIZE,
    ]
    quietly(mke2fs)


def _make_initrd(initrd: Path, tree: Path, release: str) -> None:
    """Make the smallest that mounts the disk: a shell and the modules, in the order they load."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(tree / "usr/bin/busybox", folder)
        shutil.copy(INIT, folder / "init")
        (folder / "modules").mkdir()
        for number, module in enumerate(_modules(tree, release)):
            plain = folder / "modules" / f"{number:02}-{module.stem}"
            plain.write_bytes(lzma.decompress(module.read_bytes()))
        names = "\n".join(str(path.relative_to(folder)) for path in folder.rglob("*"))
        archive = [str(folder / "busybox"), "cpio", "-o", "-H", "newc"]
        done = subprocess.run(archive, cwd=folder, input=names.encode(), capture_output=True, check=True)
        initrd.write_bytes(gzip.compress(done.stdout, 1))


def _modules(tree: Path, release: str) -> list[Path]:
    """Return the files of the first modules and all they need, each once."""
    modules: dict[Path, None] = {}
    for name in FIRST_MODULES:
        asking = ["chroot", str(tree), "modprobe", "-S", release, "--show-depends", name]
        for line in subprocess.check_output(asking, text=True).splitlines():
            modules[tree / line.split()[1].lstrip("/")] = None
    return list(modules)
