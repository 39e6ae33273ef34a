"""A disk that keeps what was synced, and of the rest whatever it likes. Pure.

It is told what a program did to it (`Op`), and makes the states that a power cut at a given moment may leave:

    synced      what was synced, and nothing else
    all         everything, as after `kill -9`
    zeros       names and sizes as they were last; what was not synced is zeros
    data        the contents as they were last, under the names that were synced
    prefix      of each file and each directory its first few changes
    sectors     of each write to a file any of its sectors of 512 bytes, in any order

A name is on the disk once its directory is synced, contents and size once the file is. A directory keeps its
changes in order, and a rename happens or does not: that much a file system with a journal promises.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

SECTOR = 512
ROOT = 0


@dataclass(frozen=True, slots=True)
class Write:
    file: int
    at: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Resize:
    file: int
    size: int


@dataclass(frozen=True, slots=True)
class Link:
    """A name in a directory for a file (None: the name goes); `source`: the name that it had until then."""

    directory: int
    name: str
    file: int | None
    source: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True)
class Sync:
    file: int


@dataclass(frozen=True, slots=True)
class Said:
    """The program said that something is durable."""

    what: str


Op = Write | Resize | Link | Sync | Said
Names = dict[int, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Disk:
    """What a program found, and all that it did. Files and directories are numbers; ROOT is a directory."""

    contents: Mapping[int, bytes]
    names: Mapping[int, Mapping[str, int]]
    ops: Sequence[Op]
    directories: frozenset[int] = field(default_factory=frozenset)


# A state: directories and files by path; a directory is None.
State = dict[str, bytes | None]
_Choice = Callable[[Sequence[Op]], Sequence[Op]]


def state_at(disk: Disk, cut: int, kind: str, random: Random) -> State:
    """Return what a power cut before operation `cut` may leave."""
    done = disk.ops[:cut]
    choose = _CHOICES[kind][0](random)
    names = _names(disk, done, choose)
    files: dict[int, bytes] = {}
    for number, pending in _pending_writes(disk, done).items():
        files[number] = _CHOICES[kind][1](random)(files_synced(disk, done, number), pending)
    state: State = {}
    _lay_out(names, disk, files, ROOT, "", state)
    return state


def files_synced(disk: Disk, done: Sequence[Op], number: int) -> bytearray:
    """Return a file's contents when it was last synced."""
    last = max((at for at, op in enumerate(done) if op == Sync(number)), default=0)
    content = bytearray(disk.contents.get(number, b""))
    for op in done[:last]:
        if isinstance(op, Write | Resize) and op.file == number:
            _apply(content, op)
    return content


def _pending_writes(disk: Disk, done: Sequence[Op]) -> dict[int, list[Write | Resize]]:
    """Return what was not synced, by file; every file is in it."""
    pending: dict[int, list[Write | Resize]] = {number: [] for number in disk.contents}
    for op in done:
        if isinstance(op, Write | Resize):
            pending.setdefault(op.file, []).append(op)
        elif isinstance(op, Sync) and op.file not in disk.directories:
            pending[op.file] = []
    return pending


def _names(disk: Disk, done: Sequence[Op], choose: _Choice) -> Names:
    names: defaultdict[int, dict[str, int]] = defaultdict(dict)
    names |= {number: dict(entries) for number, entries in disk.names.items()}
    pending: dict[int, list[Op]] = {}
    durable: set[int] = set()
    links = [(at, op) for at, op in enumerate(done) if isinstance(op, Link)]
    synced = {op.file: at for at, op in enumerate(done) if isinstance(op, Sync)}
    for at, op in links:
        if synced.get(op.directory, -1) > at:
            durable.add(at)
        else:
            pending.setdefault(op.directory, []).append(op)
    kept = {id(op) for many in pending.values() for op in choose(many)}
    for at, op in links:
        if at in durable or id(op) in kept:
            _link(names, op)
    return names


def _link(names: Names, op: Link) -> None:
    if op.source is not None:
        names.setdefault(op.source[0], {}).pop(op.source[1], None)
    if op.file is None:
        names.setdefault(op.directory, {}).pop(op.name, None)
    else:
        names.setdefault(op.directory, {})[op.name] = op.file


def _lay_out(
    names: Names, disk: Disk, files: Mapping[int, bytes], directory: int, prefix: str, state: State
) -> None:
    for name, number in sorted(names.get(directory, {}).items()):
        if number in disk.directories:
            state[prefix + name] = None
            _lay_out(names, disk, files, number, f"{prefix}{name}/", state)
        else:
            state[prefix + name] = bytes(files.get(number, b""))


def _apply(content: bytearray, op: Write | Resize) -> None:
    end = op.size if isinstance(op, Resize) else op.at + len(op.content)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if isinstance(op, Resize):
        del content[op.size :]
    else:
        content[op.at : end] = op.content


# -- what may become of changes that were not synced

_Contents = Callable[[bytearray, Sequence[Write | Resize]], bytes]


def _applied(content: bytearray, pending: Sequence[Write | Resize]) -> bytes:
    for op in pending:
        _apply(content, op)
    return bytes(content)


def _zeros(content: bytearray, pending: Sequence[Write | Resize]) -> bytes:
    return _applied(
        content,
        [op if isinstance(op, Resize) else Write(op.file, op.at, bytes(len(op.content))) for op in pending],
    )


def _first_few(random: Random) -> Callable[[Sequence[Op]], Sequence[Op]]:
    return lambda ops: ops[: random.randint(0, len(ops))]


def _some_sectors(random: Random) -> _Contents:
    def contents(content: bytearray, pending: Sequence[Write | Resize]) -> bytes:
        for op in pending:
            if isinstance(op, Resize):
                if random.random() < 0.5:
                    _apply(content, op)
                continue
            for at in range(0, len(op.content), SECTOR):
                if random.random() < 0.5:
                    _apply(content, Write(op.file, op.at + at, op.content[at : at + SECTOR]))
        return bytes(content)

    return contents


_NONE: Callable[[Random], _Choice] = lambda _: lambda _ops: []  # noqa: E731 - a row of the table below
_ALL: Callable[[Random], _Choice] = lambda _: lambda ops: ops  # noqa: E731
_CHOICES: dict[str, tuple[Callable[[Random], _Choice], Callable[[Random], _Contents]]] = {
    "synced": (_NONE, lambda _: lambda content, _pending: bytes(content)),
    "all": (_ALL, lambda _: _applied),
    "zeros": (_ALL, lambda _: _zeros),
    "data": (_NONE, lambda _: _applied),
    "prefix": (
        _first_few,
        lambda random: lambda content, pending: _applied(content, pending[: random.randint(0, len(pending))]),
    ),
    "sectors": (_first_few, _some_sectors),
}
KINDS = tuple(_CHOICES)
