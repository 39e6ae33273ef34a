"""Zephyr's SMP server, as it answers in the recorded conversations over a console UART. Sans-I/O.

Image upload keeps its state in RAM: a restart forgets it, and only the same `sha` resumes. A request at a
wrong offset succeeds and tells the offset wanted; when nothing is under way, that is 0. So it is to a last
chunk that comes again. An image uploaded before the last boot is listed, and not taken for a test.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gatewayd import image_magics
from gatewayd.protocol.smp.answers import LEAST_BUFFER
from gatewayd.protocol.smp.console import ConsoleDeframer, NoFrame, encode_console, frame_room
from gatewayd.protocol.smp.errors import MalformedError
from gatewayd.protocol.smp.frames import HEADER as REQUEST_HEADER
from gatewayd.protocol.smp.frames import Frame, Group, ImageCommand, Op, OsCommand
from gatewayd.protocol.smp.mcuboot import HEADER
from gatewayd.protocol.smp.plain import REQUESTS, PlainDeframer
from gatewayd.protocol.smp.wire import Framing
from gatewayd.simulator.smp.slots import SLOT_SIZE, Slots, listed_image

_NOT_SUPPORTED, _UNKNOWN, _INVALID, _CORRUPT = 8, 1, 3, 9
_NO_IMAGE, _NOT_FOUND, _NO_FREE_SLOT, _BAD_OFFSET, _NO_LENGTH = 3, 8, 9, 20, 21
_BAD_HEADER, _BAD_MAGIC, _TOO_LARGE, _IS_ACTIVE = 22, 23, 30, 33
_HEADER_SIZE = HEADER.size
# Errors of the image group as version 1 tells them; all others are "unknown".
_OLD_ERRORS = {_BAD_HEADER: _INVALID, _BAD_MAGIC: _INVALID, _BAD_OFFSET: _INVALID, _NO_LENGTH: _INVALID}
_SECTOR = 1024
# MCUboot's modes in bootloader info.
OVERWRITE_ONLY, SWAP_USING_OFFSET = 2, 9


class Error(Exception):
    """What a request is refused with; `group` None is an error of every group."""

    def __init__(self, rc: int, group: int | None = Group.IMAGE) -> None:
        super().__init__(rc)
        self.rc = rc
        self.group = group


@dataclass(frozen=True, slots=True)
class ServerProfile:
    """How a device is built.

    Attributes:
        reset_s: it goes on answering for so long after it was told to restart.
        write_s: how long an answer to a chunk takes, for writing flash.
        mode: MCUboot's, where bootloader info is built in.
        framing: raw for a radio, too.
        joins_packets: whether a request may come in several packets of a radio.
        unfinished_s: on a raw UART it drops what it has of a request after so long without a byte.
    """

    board: str = "qemu_cortex_m0/nrf51822"
    buffer_size: int = 384
    buffer_count: int = 4
    boot_s: float = 0.5
    reset_s: float = 0.25
    erase_s: float = 0.0
    write_s: float = 0.0
    mode: int | None = None
    framing: Framing = Framing.CONSOLE
    slot_size: int = SLOT_SIZE
    joins_packets: bool = True
    unfinished_s: float = 3.0

    @property
    def reverts(self) -> bool:
        """Whether its bootloader takes back an image that nobody confirms."""
        return self.mode != OVERWRITE_ONLY


class SmpServer:
    """See the module's text. `now` is any monotonic clock; `slots` outlive it.

    Attributes:
        answers_from: when it has booted; infinite for an application that hangs.
        image_bytes: bytes of images that came in uploads, repeated ones too.
    """

    def __init__(self, slots: Slots, profile: ServerProfile, now: float) -> None:
        self.slots = slots
        self.profile = profile
        self.boots = 0
        self.requests = 0
        self.image_bytes = 0
        self._out: deque[tuple[float, bytes]] = deque()
        self._resets_at = math.inf
        self._free_at = now
        self._heard_at = now
        self._commands: dict[tuple[int, int, Op], Callable[[Mapping[Any, Any]], dict[str, Any]]] = {
            (Group.OS, OsCommand.ECHO, Op.WRITE): lambda asked: {"r": asked.get("d", "")},
            (Group.OS, OsCommand.RESET, Op.WRITE): self._reset,
            (Group.OS, OsCommand.PARAMS, Op.READ): self._params,
            (Group.OS, OsCommand.INFO, Op.READ): self._info,
            (Group.OS, OsCommand.BOOTLOADER_INFO, Op.READ): self._bootloader,
            (Group.IMAGE, ImageCommand.STATE, Op.READ): lambda _asked: self._state(),
            (Group.IMAGE, ImageCommand.STATE, Op.WRITE): self._set_state,
            (Group.IMAGE, ImageCommand.UPLOAD, Op.WRITE): self._upload,
            (Group.IMAGE, ImageCommand.SLOT_INFO, Op.READ): self._slot_info,
        }
        self._boot(now)

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes from the line; a device that boots or hangs hears nothing."""
        self._advance(now)
        if now < self.answers_from:
            return
        if not self.profile.joins_packets:
            self._take_packet(data, now)
            return
        if isinstance(self._deframer, PlainDeframer) and data:
            if now - self._heard_at >= self.profile.unfinished_s:
                self._deframer.drop()
            self._heard_at = now
        for found in self._deframer.feed(data):
            if not isinstance(found, NoFrame) and len(found) <= self._room:
                self._take(found, now)

    def data_to_send(self, now: float) -> bytes:
        """Return what has become due for the line."""
        self._advance(now)
        due = b""
        while self._out and self._out[0][0] <= now:
            due += self._out.popleft()[1]
        return due

    def next_deadline(self) -> float:
        """When `data_to_send` has something, or the device restarts."""
        return min(self._resets_at, self._out[0][0] if self._out else math.inf)

    def forget_line(self) -> None:
        """A radio's connection has ended: half a request, and answers on their way, are dropped."""
        self._deframer = self._new_deframer()
        self._out.clear()

    @property
    def upload_size(self) -> int:
        """How large the image is that is, or was, uploaded since it booted; bytes."""
        return self._size

    def power_cut(self, now: float) -> None:
        """Off and on again."""
        self._boot(now)

    # -- booting

    def _advance(self, now: float) -> None:
        if now >= self._resets_at:
            self._boot(self._resets_at)

    def _boot(self, now: float) -> None:
        self.boots += 1
        self._resets_at = math.inf
        self._out.clear()
        self._deframer = self._new_deframer()
        self._uploading: bytes | None = None  # its `sha`
        self._wanted, self._size = 0, 0
        swap = "test" if self.slots.is_pending else "none" if self.slots.is_confirmed else "revert"
        answers = self.slots.boot()
        self._has_forgotten = swap == "none"
        self.answers_from = now + self.profile.boot_s if answers else math.inf
        self._free_at = now
        self._log(f"I: Image index: 0, Swap type: {swap}", now)
        if answers:
            self._log("*** Booting Zephyr OS ***", self.answers_from)

    def _log(self, text: str, at: float) -> None:
        if self.profile.framing is Framing.CONSOLE:
            self._out.append((at, text.encode() + b"\r\n"))

    def _new_deframer(self) -> ConsoleDeframer | PlainDeframer:
        is_console = self.profile.framing is Framing.CONSOLE
        return ConsoleDeframer() if is_console else PlainDeframer(REQUESTS)

    # -- requests

    @property
    def _room(self) -> int:
        size = max(self.profile.buffer_size, LEAST_BUFFER)
        return frame_room(size) if self.profile.framing is Framing.CONSOLE else size

    def _waiting(self, now: float) -> int:
        """Return how many requests on a radio are not answered yet, and have a buffer."""
        return sum(at > now for at, _ in self._out) if self.profile.framing is Framing.RAW else 0

    def _take_packet(self, data: bytes, now: float) -> None:
        """Take a packet for a whole request, and refuse it when the header says that there is more."""
        if len(data) < REQUEST_HEADER.size:
            return
        first, _, length, group, sequence, command = REQUEST_HEADER.unpack_from(data)
        if len(data) - REQUEST_HEADER.size >= length:
            self._take(data, now)
            return
        kind = Op.READ_ANSWER if first & 0x7 == Op.READ else Op.WRITE_ANSWER
        self._send(Frame(kind, group, command, sequence, {"rc": _CORRUPT}, first >> 3 & 1), now)

    def _take(self, data: bytes, now: float) -> None:
        try:
            asked = Frame.from_bytes(data)
        except MalformedError:
            return
        if asked.is_answer:
            return
        if self._waiting(now) >= max(1, self.profile.buffer_count - 1):
            return  # one buffer is for the answer
        self.requests += 1
        self._free_at = max(self._free_at, now)
        answer = self._answer(asked)
        op = Op(asked.op + 1)
        self._send(Frame(op, asked.group, asked.command, asked.sequence, answer, asked.version), now)
        if asked.group == Group.OS and asked.command == OsCommand.RESET:
            self._resets_at = now + self.profile.reset_s

    def _send(self, answer: Frame, now: float) -> None:
        frame = answer.to_bytes()
        wire = encode_console(frame) if self.profile.framing is Framing.CONSOLE else frame
        self._out.append((max(self._free_at, now), wire))

    def _answer(self, asked: Frame) -> dict[str, Any]:
        run = self._commands.get((asked.group, asked.command, asked.op))
        if run is None:
            return {"rc": _NOT_SUPPORTED}
        try:
            return run(asked.payload)
        except Error as error:
            if error.group is None:
                return {"rc": error.rc}
            if asked.version:
                return {"err": {"group": error.group, "rc": error.rc}}
            return {"rc": _OLD_ERRORS.get(error.rc, _UNKNOWN)}

    # -- OS

    def _reset(self, _asked: Mapping[Any, Any]) -> dict[str, Any]:
        return {}

    def _params(self, _asked: Mapping[Any, Any]) -> dict[str, Any]:
        return {"buf_size": self.profile.buffer_size, "buf_count": self.profile.buffer_count}

    def _info(self, _asked: Mapping[Any, Any]) -> dict[str, Any]:
        return {"output": self.profile.board}

    def _bootloader(self, asked: Mapping[Any, Any]) -> dict[str, Any]:
        if self.profile.mode is None:
            raise Error(_NOT_SUPPORTED, None)
        return {"mode": self.profile.mode} if asked.get("query") == "mode" else {"bootloader": "MCUboot"}

    # -- images

    def _state(self) -> dict[str, Any]:
        slots = self.slots
        waiting = slots.secondary if slots.is_confirmed else slots.old
        images = [self._entry(0, slots.primary), self._entry(1, waiting)]
        return {"images": [entry for entry in images if entry], "splitStatus": 0}

    def _entry(self, number: int, content: bytes) -> dict[str, Any]:
        image = listed_image(content)
        if image is None:
            return {}
        is_active = number == 0
        return {
            "slot": number,
            "version": image.version + (f".{image.build}" if image.build else ""),
            "hash": image.id.digest,
            "bootable": True,
            "pending": not is_active and self.slots.is_pending,
            # On trial it is the old one that counts as confirmed.
            "confirmed": is_active is self.slots.is_confirmed,
            "active": is_active,
            "permanent": False,
        }

    def _set_state(self, asked: Mapping[Any, Any]) -> dict[str, Any]:
        wanted, confirms = asked.get("hash"), asked.get("confirm") is True
        primary, secondary = listed_image(self.slots.primary), listed_image(self.slots.secondary)
        if wanted is None and confirms:
            self.slots.confirm()
        elif primary is not None and wanted == primary.id.digest:
            if not confirms:
                raise Error(_IS_ACTIVE)
            self.slots.confirm()
        elif secondary is not None and wanted == secondary.id.digest:
            if self._has_forgotten:
                raise Error(_BAD_MAGIC)
            self.slots.is_pending = True
        else:
            raise Error(_NOT_FOUND)
        return self._state()

    def _slot_info(self, _asked: Mapping[Any, Any]) -> dict[str, Any]:
        size = self.profile.slot_size
        slots = [{"slot": 0, "size": size}, {"slot": 1, "size": size, "upload_image_id": 0}]
        return {"images": [{"image": 0, "slots": slots}]}

    def _upload(self, asked: Mapping[Any, Any]) -> dict[str, Any]:
        offset, data = asked.get("off"), asked.get("data", b"")
        if not isinstance(offset, int) or not isinstance(data, bytes):
            raise Error(_BAD_OFFSET)
        self.image_bytes += len(data)
        if offset == 0:
            return {"off": self._begin(asked, data)}
        if offset == self._wanted and self._uploading is not None:
            self._write(data)
        wanted = self._wanted
        if self._uploading is not None and wanted == self._size:
            self._uploading, self._wanted, self._has_forgotten = None, 0, False
        return {"off": wanted}

    def _begin(self, asked: Mapping[Any, Any], data: bytes) -> int:
        size, sha = asked.get("len"), asked.get("sha", b"")
        if len(data) < _HEADER_SIZE:
            raise Error(_BAD_HEADER)
        if not isinstance(size, int):
            raise Error(_NO_LENGTH)
        if data[:4] != image_magics.MCUBOOT:
            raise Error(_BAD_MAGIC)
        if size > self.profile.slot_size:
            raise Error(_TOO_LARGE)
        if self._uploading is not None and sha and self._uploading == sha:
            return self._wanted
        if not self.slots.is_confirmed:
            raise Error(_NO_FREE_SLOT)
        self.slots.erase_secondary()
        self._free_at += self.profile.erase_s
        self._uploading, self._wanted, self._size = sha, 0, size
        self._write(data)
        return self._wanted

    def _write(self, data: bytes) -> None:
        self._free_at += self.profile.write_s
        self.slots.secondary += data[: self._size - self._wanted]
        self._wanted = len(self.slots.secondary)
