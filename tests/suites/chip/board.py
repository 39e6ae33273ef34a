"""The boards that QEMU emulates for us: how each is started, its flash, and what was built for it."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lab.tree import ROOT

PORTS = ROOT / "device" / "ports"
_DEFINE = re.compile(r"^#define (\w+) (0x[0-9A-Fa-f]+|\d+)\b", re.MULTILINE)


@dataclass(frozen=True)
class Board:
    """A port in device/ports. `built` is where its images are; `machine` is QEMU's program and arguments."""

    app_id: str
    folder: Path
    built: Path
    machine: tuple[str, ...]
    first: str  # the image without faults
    nm: str = ""  # where the stack is painted: what finds its end

    @cached_property
    def layout(self) -> dict[str, int]:
        """Return the numbers in its layout.h."""
        text = (self.folder / "layout.h").read_text()
        return {name: int(value, 0) for name, value in _DEFINE.findall(text)}


MICROBIT = Board(
    "microbit",
    PORTS / "microbit",
    PORTS / "microbit" / "build" / "lab",
    ("qemu-system-arm", "-M", "microbit"),
    "plain",
    "arm-none-eabi-nm",
)
RISCV = Board(
    "riscv",
    PORTS / "riscv",
    PORTS / "riscv" / "build",
    ("qemu-system-riscv32", "-M", "virt", "-bios", "none"),
    "image",
)
MPS2 = Board(
    "mps2",
    PORTS / "mps2",
    PORTS / "mps2" / "build",
    ("qemu-system-arm", "-M", "mps2-an385"),
    "image",
)
