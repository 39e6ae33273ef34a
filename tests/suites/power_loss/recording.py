"""What a program really does to a directory: strace writes it down, and this reads it.

Only what goes through system calls: SQLite's index of its log (-shm) is mapped, never synced, and made again
at each start; it is left out.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from lab.tree import with_tests_on_path

from suites.power_loss.disk import ROOT, Disk, Link, Op, Resize, Said, Sync, Write

CALLS = (
    *("openat", "close", "write", "pwrite64", "fsync", "fdatasync", "ftruncate", "fallocate"),
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat"),
)
# What the program says goes here, a line for each write.
SAID = "said"
_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)(?:<[^>]*>)?(?: .*)?$")
_UNFINISHED = re.compile(r"(\d+) +(\w+)\((.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)$")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


def record(folder: Path, *words: str) -> Disk:
    """Run `suites.power_loss.workload` on `folder`; return what it found and did there."""
    before = _Reader(folder)
    log = folder.with_name(f"{folder.name}.strace")
    said = folder.with_name(f"{folder.name}.{SAID}")
    command = ["strace", "-f", "-xx", "-s", "9000000", "-o", str(log), "-e", f"trace={','.join(CALLS)}"]
    program = [sys.executable, "-m", "suites.power_loss.workload", str(folder), str(said), *words]
    done = subprocess.run(
        [*command, *program], env=with_tests_on_path(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with log.open() as lines:
        for line in _whole(lines):
            before.take(line)
    return before.disk()


def _whole(lines: Iterator[str]) -> Iterator[str]:
    """Yield each call in one line: another thread's may have come between its halves."""
    halves: dict[str, str] = {}
    for line in lines:
        text = line.rstrip("\n")
        if half := _UNFINISHED.match(text):
            halves[half[1]] = f"{half[1]} {half[2]}({half[3]}"
        elif rest := _RESUMED.match(text):
            yield halves.pop(rest[1], "") + rest[3]
        else:
            yield text


class _Reader:
    """The directory as it is, and then as each call leaves it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers: dict[str, int] = {"": ROOT}
        self._directories = {ROOT}
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._count = 0
        self._open: dict[int, tuple[int, int]] = {}  # a descriptor's file, and where it writes next
        self._said_at: set[int] = set()
        self._ops: list[Op] = []
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            number = self._new(name, is_directory=path.is_dir())
            self._names.setdefault(self._numbers[_parent(name)], {})[path.name] = number
            if not path.is_dir():
                self._contents[number] = path.read_bytes()

    def disk(self) -> Disk:
        return Disk(self._contents, self._names, self._ops, frozenset(self._directories))

    def _new(self, name: str, *, is_directory: bool) -> int:
        self._count += 1
        self._numbers[name] = self._count
        if is_directory:
            self._directories.add(self._count)
        return self._count

    def take(self, line: str) -> None:
        """Read one call."""
        match = _LINE.match(line)
        if match is None or int(match[4]) < 0:
            return
        call, arguments, result = match[2], match[3], int(match[4])
        texts = [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(arguments)]
        if call in (
            "openat",
            "mkdir",
            "mkdirat",
            "rename",
            "renameat",
            "renameat2",
            "unlink",
            "unlinkat",
            "rmdir",
        ):
            self._on_names(call, [text.decode() for text in texts], arguments, result)
        else:
            numbers = [
                int(word) for word in re.sub(_TEXT, "", arguments).split(",") if word.strip().isdigit()
            ]
            self._on_descriptor(call, numbers, texts, result)

    def _on_names(self, call: str, paths: list[str], arguments: str, result: int) -> None:
        if paths and paths[-1].endswith(f".{SAID}") and call == "openat":
            self._said_at.add(result)
            return
        names = [self._within(path) for path in paths]
        if call == "openat" and names[0] is not None:
            self._opened(names[0], arguments, result)
        elif call.startswith("mkdir") and names[0] is not None:
            self._link(names[0], self._new(names[0], is_directory=True))
        elif call.startswith("rename") and names[0] is not None and names[1] is not None:
            self._rename(names[0], names[1])
        elif call in ("unlink", "unlinkat", "rmdir") and names[0] is not None:
            self._numbers.pop(names[0])
            self._link(names[0], None)

    def _on_descriptor(self, call: str, numbers: list[int], texts: list[bytes], result: int) -> None:
        descriptor = numbers[0]
        if call == "write" and descriptor in self._said_at:
            self._ops += [Said(line) for line in texts[0].decode().splitlines()]
        if descriptor not in self._open:
            return
        file, at = self._open[descriptor]
        match call:
            case "close":
                del self._open[descriptor]
            case "write":
                self._ops.append(Write(file, at, texts[0][:result]))
                self._open[descriptor] = (file, at + result)
            case "pwrite64":
                self._ops.append(Write(file, numbers[2], texts[0][:result]))
            case "ftruncate":
                self._ops.append(Resize(file, numbers[1]))
            case "fallocate":
                self._ops.append(Resize(file, numbers[-2] + numbers[-1]))
            case "fsync" | "fdatasync":
                self._ops.append(Sync(file))

    def _opened(self, name: str, flags: str, descriptor: int) -> None:
        if name not in self._numbers:
            if "O_CREAT" not in flags:
                return
            self._link(name, self._new(name, is_directory=False))
        elif "O_TRUNC" in flags:
            self._ops.append(Resize(self._numbers[name], 0))
        self._open[descriptor] = (self._numbers[name], 0)

    def _rename(self, old: str, new: str) -> None:
        number = self._numbers.pop(old)
        self._numbers[new] = number
        for name in [one for one in self._numbers if one.startswith(f"{old}/")]:
            self._numbers[new + name[len(old) :]] = self._numbers.pop(name)
        self._link(new, number, (self._numbers[_parent(old)], old.rpartition("/")[2]))

    def _link(self, name: str, number: int | None, source: tuple[int, str] | None = None) -> None:
        self._ops.append(Link(self._numbers[_parent(name)], name.rpartition("/")[2], number, source))

    def _within(self, path: str) -> str | None:
        """Return a path within the folder, or None for what is not in it or not of interest."""
        try:
            name = str(Path(path).relative_to(self._folder))
        except ValueError:
            return None
        return None if name.endswith("-shm") else name.removeprefix(".")


def _parent(name: str) -> str:
    return name.rpartition("/")[0]
