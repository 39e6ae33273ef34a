"""Where the forms are built, and by what."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab.tree import ROOT

DEVICE = ROOT / "device"
DIST = DEVICE / "build" / "dist"
STUBS = Path(__file__).parent / "stubs"
TOOLS = ROOT / ".venv" / "dist" / "bin"
LIMIT_S = 120.0
WARNINGS = ("-Os", "-Wall", "-Wextra", "-Werror")

_TOOLCHAIN = """set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_C_COMPILER {compiler})
set(CMAKE_C_FLAGS_INIT "{flags}")
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
"""


@dataclass(frozen=True)
class Chip:
    """What cmake is told of a processor."""

    compiler: str
    flags: tuple[str, ...]


CORTEX_M4 = Chip("arm-none-eabi-gcc", ("-mcpu=cortex-m4", "-mthumb"))
# Debian's compiler for bare RISC-V has its C library for this spelling of the ESP32-C3's rv32imc.
ESP32_C3 = Chip(
    "riscv64-unknown-elf-gcc",
    ("-march=rv32imac", "-misa-spec=2.2", "-mabi=ilp32", "--specs=picolibc.specs"),
)


class BuildError(Exception):
    """A tool refused. It says itself why."""


@dataclass(frozen=True)
class Work:
    """An empty folder to build in."""

    folder: Path

    def run(self, *command: str | Path) -> str:
        """Run a tool, and return what it says. Raises BuildError if it fails."""
        return self._run(*command, environment={})

    def run_with(self, environment: dict[str, Path], *command: str | Path) -> str:
        """Run a tool that wants to be told something."""
        return self._run(*command, environment=environment)

    def fail(self, *command: str | Path) -> str:
        """Run a tool that has to refuse, and return what it says. Raises BuildError if it does not."""
        return self._run(*command, environment={}, fails=True)

    def unpack(self, name: str) -> Path:
        """Unpack an archive of the distribution's, and return the one folder that is in it."""
        (archive,) = (
            path for path in DIST.iterdir() if re.fullmatch(rf"{name}-[\d.]+(tar\.gz|zip)", path.name)
        )
        into = self.folder / "unpacked"
        into.mkdir()
        if archive.suffix == ".zip":
            self.run("python3", "-m", "zipfile", "-e", archive, into)
        else:
            self.run("tar", "-xzf", archive, "-C", into)
        (folder,) = into.iterdir()
        return folder

    def cmake(self, source: Path, chip: Chip, *options: str, **environment: Path) -> Path:
        """Build a project for a chip by the real cmake; returns the build folder."""
        toolchain = self.folder / "toolchain.cmake"
        toolchain.write_text(
            _TOOLCHAIN.format(compiler=chip.compiler, flags=" ".join((*chip.flags, *WARNINGS)))
        )
        build = self.folder / f"build-{len(list(self.folder.iterdir()))}"
        toolchain_option = f"-DCMAKE_TOOLCHAIN_FILE={toolchain}"
        self._run("cmake", "-S", source, "-B", build, toolchain_option, *options, environment=environment)
        self.run("cmake", "--build", build)
        return build

    def _run(self, *command: str | Path, environment: dict[str, Path], fails: bool = False) -> str:
        done = subprocess.run(
            ["env", *(f"{name}={value}" for name, value in environment.items()), *command],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        said = done.stdout + done.stderr
        if (done.returncode != 0) is not fails:
            raise BuildError(f"{' '.join(map(str, command))}: {done.returncode}\n{said}")
        return said


def object_of(build: Path, source: str) -> Path:
    """Return the object that cmake has made of a source file."""
    (found,) = build.rglob(f"{source}.obj")
    return found
