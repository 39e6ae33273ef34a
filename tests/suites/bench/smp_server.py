"""The peer's server: a prebuilt Zephyr application with MCUboot, in QEMU, as nobody and without a network.

The images are third-party binaries. They come inside smpclient's source distribution, are never part of this
project, and run only when the distribution's and their own SHA-256 are the expected ones. What cannot run is
`Absent`, with the reason.
"""

import asyncio
import fcntl
import hashlib
import os
import pwd
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from suites.bench.transfer import until_there

VERSION = "7.3.0"
SDIST = f"smpclient-{VERSION}.tar.gz"
SDIST_SHA256 = "86aa4bc1c621805d97f449793a4077f049aa88a98a1e916bf59423d072bd2a3b"
_INSIDE = f"smpclient-{VERSION}/tests/fixtures/smp-server/"
PROGRAMS = ("qemu-system-arm", "unshare", "setpriv")
# MCUboot's second image slot, where the application starts from, in the machine's RAM; from the manifest.
_APPLICATION_ADDRESS = 0x20050000
# Of the image whose name has no size; Zephyr's default, from the manifest.
_UNNAMED_BUFFER = 384


class Absent(Exception):  # noqa: N818 - it is an answer
    """The peer cannot run here; the text says why."""


def require_programs(path: str | None = None) -> None:
    """Raise Absent when a program or a right is missing."""
    for program in PROGRAMS:
        if shutil.which(program, path=path) is None:
            raise Absent(f"{program} is not installed")
    if os.geteuid() != 0:
        raise Absent("only root can start it as nobody without a network")


def fetch(folder: Path) -> Path:
    """Return the images' folder below `folder`; gets the distribution with pip when it is not there.

    Tests in several processes may fetch at once. Raises Absent.
    """
    sdist, images = folder / SDIST, folder / "smp-server"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not sdist.exists():
            _download(folder)
        if hashlib.sha256(sdist.read_bytes()).hexdigest() != SDIST_SHA256:
            raise Absent(f"{SDIST} is not the one this benchmark was written for (SHA-256)")
        if not images.exists():
            _unpack(sdist, images)
    return images


def _unpack(sdist: Path, images: Path) -> None:
    unfinished = images.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    with tarfile.open(sdist) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.name.startswith(_INSIDE) else None
            if content is not None:
                (unfinished / Path(member.name).name).write_bytes(content.read())
    unfinished.rename(images)


def verified(images: Path, name: str) -> bytes:
    """Return a file of the images' folder when SHA256SUMS says that it is whole. Raises Absent."""
    sums = dict(line.split()[::-1] for line in (images / "SHA256SUMS").read_text().splitlines() if line)
    content = (images / name).read_bytes()
    if sums.get(name) != hashlib.sha256(content).hexdigest():
        raise Absent(f"{name} has another SHA-256 than SHA256SUMS says")
    return content


def find(images: Path, buffer_size: int) -> tuple[str, str]:
    """Return the names of bootloader and signed application with buffers of that size. Raises Absent."""
    suffix = "" if buffer_size == _UNNAMED_BUFFER else f"_buf{buffer_size}"
    found = sorted(images.glob(f"zephyr_*_mps2_an385_serial_recovery{suffix}.hex"))
    if not found:
        raise Absent(f"{SDIST} has no image with buffers of {buffer_size} bytes")
    return found[-1].name, found[-1].with_suffix(".signed.bin").name


@asynccontextmanager
async def serve(images: Path, buffer_size: int) -> AsyncIterator[Path]:
    """Run the server; gives the Unix socket that is its serial port."""
    with tempfile.TemporaryDirectory(prefix="gatewayd-peer-") as work:
        names = _prepare(Path(work), images, buffer_size)
        socket = Path(work, "sockets", "uart")
        async with running(*as_nobody(), *_qemu(*names), folder=work):
            try:
                await until_there(socket)
            except TimeoutError:
                raise Absent("QEMU does not start") from None
            yield socket


@asynccontextmanager
async def running(*command: object, folder: str | None = None) -> AsyncIterator[None]:
    """Run a process meanwhile."""
    words = [str(word) for word in command]
    process = await asyncio.create_subprocess_exec(*words, cwd=folder, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _prepare(folder: Path, images: Path, buffer_size: int) -> tuple[str, str]:
    """Copy what nobody is to read and make what nobody is to write; returns the images' names."""
    folder.chmod(0o755)
    names = find(images, buffer_size)
    for name in names:
        (folder / name).write_bytes(verified(images, name))
        (folder / name).chmod(0o644)
    (folder / "sockets").mkdir()
    nobody = pwd.getpwnam("nobody")
    os.chown(folder / "sockets", nobody.pw_uid, nobody.pw_gid)
    return names


def _download(folder: Path) -> None:
    what = ["--no-deps", "--no-binary", "smpclient", f"smpclient=={VERSION}"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, "--dest", str(folder), *what], stdout=subprocess.DEVNULL, check=False)
    if done.returncode or not (folder / SDIST).exists():
        raise Absent(f"pip cannot get {SDIST}, which has the server in it")


def as_nobody() -> list[str]:
    """Return the words that run a command as nobody, without capabilities and a network."""
    nobody = pwd.getpwnam("nobody")
    ids = [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", "--pdeathsig=KILL"]
    return ["unshare", "--net", "setpriv", *ids, "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]


def sandboxed(machine: Iterable[str], uart: str) -> list[str]:
    """Return the words that start a machine which reaches nothing but the socket of its first UART."""
    without = ["-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-nic", "none"]
    sandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
    serial = ["-chardev", f"socket,id=uart,path={uart},server=on,wait=off", "-serial", "chardev:uart"]
    return ["qemu-system-arm", *machine, *without, "-sandbox", sandbox, *serial]


def _qemu(bootloader: str, application: str) -> list[str]:
    machine = sandboxed(["-machine", "mps2-an385", "-cpu", "cortex-m3"], "sockets/uart")
    load = ["-device", f"loader,file={bootloader}"]
    load += ["-device", f"loader,file={application},addr={_APPLICATION_ADDRESS:#x}"]
    return [*machine, "-serial", "null", *load]
