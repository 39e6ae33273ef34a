"""One QEMU: what it boots, how long it may take, and what is left of it."""

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from suites.vm.image import Image

TIMED_OUT = 124
# Both ends of each are in the same QEMU: who is inside operates its own monitor, and sits at the far end of
# the line of the adapter that it plugs in.
LOOPS = {"monitor": ("-mon", "chardev={near},mode=control"), "board": ()}


@dataclass(frozen=True)
class Machine:
    """A virtual machine without a network. `first` is its first process, `words` go to the kernel with it.

    `has_package`: wants to find the Debian package at /out.
    """

    name: str
    first: str
    words: str = ""
    has_package: bool = False

    def boot(self, image: Image, project: Path, out: Path, limit_s: float) -> int:
        """Boot with the project at /src and `out` at /out, until it powers off; returns the exit status."""
        with tempfile.TemporaryDirectory(prefix="gatewayd-vm-") as sockets:
            command = [*self._qemu(image, project, out), *_loops(Path(sockets))]
            try:
                return subprocess.run(command, timeout=limit_s, check=False).returncode
            except subprocess.TimeoutExpired:
                return TIMED_OUT

    def _qemu(self, image: Image, project: Path, out: Path) -> list[str]:
        words = f"console=ttyS0 quiet panic=-1 mitigations=off first={self.first} {self.words}"
        return [
            *(
                "qemu-system-x86_64",
                "-accel",
                "tcg,thread=multi",
                "-cpu",
                "qemu64",
                "-smp",
                "2",
                "-m",
                "1024",
            ),
            *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-nic", "none"),
            *("-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", words),
            *("-serial", f"file:{out / 'console'}", "-device", "virtio-rng-pci"),
            *("-drive", f"file={image.disk},format=raw,if=virtio,snapshot=on"),
            *("-virtfs", f"local,path={project},mount_tag=src,security_model=none"),
            *("-virtfs", f"local,path={out},mount_tag=out,security_model=none"),
            *("-device", "qemu-xhci", "-device", "virtio-serial-pci"),
        ]


def _loops(folder: Path) -> list[str]:
    """Lead each line out of the machine and in again, as a virtio port of its name."""
    words: list[str] = []
    for name, use in LOOPS.items():
        path = folder / name
        words += ["-chardev", f"socket,id={name}-near,path={path},server=on,wait=off"]
        words += [word.format(near=f"{name}-near") for word in use]
        words += ["-chardev", f"socket,id={name}-far,path={path}"]
        words += ["-device", f"virtserialport,chardev={name}-far,name={name}"]
    return words
