"""One long conversation that asks an SMP server everything that matters, and what a server answered.

The same script is played to the real server (a board in QEMU), whose side is recorded, and to the model. The
recording holds raw bytes and times of both directions; of an uploaded application, which is not ours to keep,
it holds header and TLVs, and of its chunks offset and size.
"""

import hashlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gatewayd.protocol.smp.console import ConsoleDeframer, encode_console
from gatewayd.protocol.smp.frames import Frame, Group, ImageCommand, Op, OsCommand
from gatewayd.protocol.smp.mcuboot import read_image
from lab.smp.recipes import Recipe, make_image

VECTOR = Path(__file__).parents[2] / "vectors" / "smp" / "microbit.txt"
CHUNK = 240
HEAD = 32
# Vectors (stack, reset) and a branch to itself, at the address of the first slot: real processors hang in it.
_HANGS = bytes.fromhex("00400020 09820000 fee70000")
OURS = make_image(Recipe((1, 0, 5, 0), _HANGS + b"firmware" * 100))
OTHER = make_image(Recipe((1, 0, 6, 0), _HANGS + b"software" * 100))


@dataclass(frozen=True)
class Step:
    """One request, or something done to the board (`power_cut`, `wait`)."""

    name: str
    frame: Frame | None = None
    image: str = ""  # whose bytes it carries
    seconds: float = 0.0


@dataclass
class Script:
    """The conversation; `applications` are images that really run, by name."""

    applications: dict[str, bytes]
    steps: list[Step] = field(default_factory=list)
    _sequence: int = 0

    def ask(self, name: str, op: Op, group: int, command: int, **payload: Any) -> None:
        """Add a request."""
        version = payload.pop("version", 1)
        self._add(name, op, group, command, payload, version=version)

    def upload(self, name: str, image: str, offset: int, size: int = CHUNK, **changes: Any) -> None:
        """Add one chunk."""
        content = self.content(image)
        version = changes.pop("version", 1)
        payload: dict[str, Any] = {"off": offset, "data": content[offset : offset + size]}
        if not offset:
            payload |= {"len": len(content), "sha": hashlib.sha256(content).digest()}
        payload = {key: value for key, value in (payload | changes).items() if value is not None}
        kept = image if image in self.applications else ""
        self._add(name, Op.WRITE, Group.IMAGE, ImageCommand.UPLOAD, payload, image=kept, version=version)

    def upload_all(self, image: str, start: int = 0) -> None:
        """Add all chunks from an offset on."""
        for offset in range(start, len(self.content(image)), CHUNK):
            self.upload(f"{image} at {offset}", image, offset)

    def content(self, image: str) -> bytes:
        """Return an image's bytes."""
        return {"ours": OURS, "other": OTHER, **self.applications}[image]

    def state(self, name: str = "image state") -> None:
        """Ask for the slots."""
        self.ask(name, Op.READ, Group.IMAGE, ImageCommand.STATE)

    def test(self, name: str, digest: bytes, **more: Any) -> None:
        """Ask to try an image."""
        self.ask(name, Op.WRITE, Group.IMAGE, ImageCommand.STATE, hash=digest, confirm=False, **more)

    def power_cut(self) -> None:
        """Off and on."""
        self.steps.append(Step("power cut"))

    def reset(self) -> None:
        """Restart, and let it boot."""
        self.ask("reset", Op.WRITE, Group.OS, OsCommand.RESET)
        self.steps.append(Step("wait", seconds=3.0))

    def _add(
        self, name: str, op: Op, group: int, command: int, payload: Any, *, version: int, image: str = ""
    ) -> None:
        self._sequence = (self._sequence + 1) % 256
        frame = Frame(op, group, command, self._sequence, payload, version)
        self.steps.append(Step(name, frame, image))


def digest(content: bytes) -> bytes:
    """Return MCUboot's hash of an image."""
    return read_image(content, verifies=False).id.digest


def conversation(applications: dict[str, bytes]) -> Script:
    """Return the script. `applications`: `old` runs on the board, `new` is a later version of it."""
    script = Script(applications)
    _questions(script)
    _wrong_uploads(script)
    _slots(script)
    _trials(script)
    return script


def _questions(script: Script) -> None:
    script.ask("parameters", Op.READ, Group.OS, OsCommand.PARAMS)
    script.ask("board", Op.READ, Group.OS, OsCommand.INFO, format="i")
    script.ask("bootloader's mode", Op.READ, Group.OS, OsCommand.BOOTLOADER_INFO, query="mode")
    script.ask("slot info", Op.READ, Group.IMAGE, ImageCommand.SLOT_INFO)
    script.ask("echo", Op.WRITE, Group.OS, OsCommand.ECHO, d="hello")
    script.ask("unknown command", Op.READ, Group.OS, 99)
    script.ask("unknown command, version 1", Op.READ, Group.OS, 99, version=0)
    script.ask("unknown group", Op.READ, 77, 0)
    script.state()


def _wrong_uploads(script: Script) -> None:
    script.upload("nothing under way", "ours", 100)
    script.upload("less than a header", "ours", 0, 20)
    script.upload("less than a header, version 1", "ours", 0, 20, version=0)
    script.upload("another magic", "ours", 0, data=bytes(60))
    script.upload("too long", "ours", 0, len=200_000)
    script.upload("no length", "ours", 0, len=None)
    script.upload("no offset", "ours", 0, off=None)
    script.upload("first", "ours", 0)
    script.upload("an offset too high", "ours", 500)
    script.upload("second", "ours", 240)
    script.upload("second again", "ours", 240)
    script.upload("the same sha resumes", "ours", 0)
    script.upload("another sha begins again", "other", 0)
    script.upload("the one before begins again", "ours", 0)
    script.upload("without sha, begins again", "ours", 0, sha=None)
    script.upload("with sha after that", "ours", 0)
    script.upload("second of that", "ours", 240)
    script.power_cut()
    script.upload("after a power cut nothing is under way", "ours", 480)
    script.upload("the same sha begins again", "ours", 0)
    script.upload_all("ours", CHUNK)
    script.upload("the last chunk again", "ours", len(OURS) // CHUNK * CHUNK)


def _slots(script: Script) -> None:
    script.state("uploaded")
    script.power_cut()
    script.state("uploaded before the last boot")
    script.test("test of what was uploaded before the last boot", digest(OURS))
    script.upload_all("ours")
    script.test("test of an unknown hash", bytes(32))
    script.test("test of an unknown hash, version 1", bytes(32), version=0)
    script.test("test of the active one", digest(script.content("old")))
    script.ask("confirm what is confirmed", Op.WRITE, Group.IMAGE, ImageCommand.STATE, confirm=True)
    script.test("test", digest(OURS))
    script.test("test again", digest(OURS))
    script.upload("an upload while one is pending", "other", 0)
    script.state("pending is off")
    script.upload_all("other", CHUNK)
    script.test("test of the other", digest(OTHER))
    script.reset()
    script.ask("it does not run", Op.READ, Group.OS, OsCommand.PARAMS)
    script.power_cut()
    script.state("reverted")


def _trials(script: Script) -> None:
    script.upload_all("new")
    script.state("new is there")
    script.test("test of the new one", digest(script.content("new")))
    script.reset()
    script.state("on trial")
    script.upload("an upload while on trial", "ours", 0)
    script.power_cut()
    script.state("taken back for want of a confirmation")
    script.test("test of the new one again", digest(script.content("new")))
    script.reset()
    script.ask("confirm", Op.WRITE, Group.IMAGE, ImageCommand.STATE, confirm=True)
    script.power_cut()
    script.state("confirmed")


class Server(Protocol):
    """Who the script is played to."""

    async def ask(self, wire: bytes, seconds: float, *, is_repeatable: bool = False) -> list[Frame]:
        """Send; return the answers that come in time."""

    async def power_cut(self) -> None:
        """Off and on, until it has booted."""

    async def wait(self, seconds: float) -> None:
        """Let time pass."""


async def play(script: Script, server: Server) -> AsyncIterator[tuple[Step, list[Frame]]]:
    """Play it, and give what each request is answered."""
    for step in script.steps:
        if step.frame is not None:
            wire = encode_console(step.frame.to_bytes())
            yield step, await server.ask(wire, 2.0, is_repeatable=step.name != "it does not run")
        elif step.seconds:
            await server.wait(step.seconds)
        else:
            await server.power_cut()


def plain(frames: list[Frame]) -> list[Any]:
    """Return what is compared: all but reasons in words."""
    return [
        (int(one.op), one.group, one.command, one.sequence, one.version, _without_words(one.payload))
        for one in frames
    ]


def _without_words(payload: Any) -> dict[str, Any]:
    return {key: value for key, value in payload.items() if key != "rsn"}


# -- the recording


def sparse(content: bytes) -> tuple[int, bytes, bytes]:
    """Return size, header and TLVs of an image."""
    image = read_image(content)
    return len(content), content[:HEAD], content[image.header_size + image.image_size :]


def filled(size: int, head: bytes, tail: bytes) -> bytes:
    """Return an image of that size with nothing between header and TLVs."""
    return head + bytes(size - len(head) - len(tail)) + tail


@dataclass(frozen=True)
class Recorded:
    """A recording: images by name, and what the server answered each step."""

    applications: dict[str, bytes]
    answers: list[list[Frame]]


def read_recording(path: Path = VECTOR) -> Recorded:
    """Read a recording."""
    applications: dict[str, bytes] = {}
    answers: list[list[Frame]] = []
    deframer = ConsoleDeframer()
    for words in _lines(path):
        if words[0] == "image":
            applications[words[1]] = filled(int(words[2]), bytes.fromhex(words[3]), bytes.fromhex(words[4]))
        elif words[1] == ">":
            answers.append([])
            deframer = ConsoleDeframer()
        elif words[1] == "<" and answers:  # before the first question it prints that it boots
            found = deframer.feed(bytes.fromhex(words[2]))
            answers[-1] += [Frame.from_bytes(one) for one in found if isinstance(one, bytes)]
    return Recorded(applications, answers)


def _lines(path: Path) -> Iterator[list[str]]:
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            yield line.split()
