"""The receiver, in Python and sans-I/O: with docs/protocol.md the specification of a device.

What survives a restart lives in two things made once: the flash (journal and slot) and the bootloader (what
the device is, which image runs). All else is a `DeviceProtocol`, created again at every boot. A restart, of
whatever cause, is: nothing for `boot_s`, then a boot with another boot id.
"""

import secrets
from collections import deque
from collections.abc import Callable, Iterator

from gatewayd.protocol.rcp.base import FrameType
from gatewayd.protocol.rcp.framing import BrokenFrame, StreamDeframer, encode_stream
from gatewayd.protocol.rcp.packets import Assembler, ShortData, clamp, split
from gatewayd.simulator.bootloader import Bootloader
from gatewayd.simulator.file_store import MemoryFileStore
from gatewayd.simulator.flash import Flash, PowerCut
from gatewayd.simulator.profile import DeviceProfile
from gatewayd.simulator.protocol import DeviceProtocol
from gatewayd.simulator.speed import LineSpeed

_LEAVE_S = 0.01  # for ACTIVATED to leave the last FIFO before the restart


def random_boot_ids() -> Iterator[int]:
    """Yield boot ids, no two in a row alike."""
    last = 0
    while True:
        last = (last + 1 + secrets.randbelow(2**32 - 1)) % 2**32
        yield last


class Receiver:
    """A device; see the module's text. On a stream until `connect`. `log` hears a line for each event."""

    def __init__(
        self,
        profile: DeviceProfile,
        *,
        flash: Flash | None = None,
        bootloader: Bootloader | None = None,
        boot_ids: Iterator[int] | None = None,
        log: Callable[[str], None] = lambda _line: None,
        now: float = 0.0,
    ) -> None:
        self.bootloader = bootloader or Bootloader(MemoryFileStore(), profile)
        self.profile = profile = self.bootloader.profile
        self.flash = flash or blank_flash(profile)
        self._boot_ids = boot_ids or random_boot_ids()
        self._log = log
        self._speed = LineSpeed(profile.base_baud)
        self._packet: int | None = None  # bytes that a datagram carries; None on a stream
        self._fragments: deque[bytes] = deque()
        self._conversation: DeviceProtocol | None = None  # None while off
        self._boot_at = now
        self._restart_at: float | None = None
        self._boot(now)

    @property
    def baud(self) -> int:
        """The speed it sends and listens at."""
        return self._speed.baud

    @property
    def running_image(self) -> bytes | None:
        """The image it runs; None for the factory's."""
        return self.bootloader.image

    @property
    def running_version(self) -> str:
        """The version it runs."""
        return self.bootloader.version

    @property
    def state(self) -> str:
        """The state of protocol.md, section 10; `OFF` without power."""
        return self._conversation.state.name if self._conversation else "OFF"

    @property
    def is_on(self) -> bool:
        """Whether it runs; False while it boots."""
        return self._conversation is not None

    def connect(self, max_datagram: int) -> None:
        """A gateway has connected, by a datagram link that carries so much."""
        self._packet = clamp(max_datagram)
        self._assembler = Assembler(self.profile.max_frame)
        self._fragments.clear()
        if self._conversation is not None:
            self._conversation.spacing.is_datagram = True

    def receive_data(self, data: bytes, now: float) -> None:
        """Take bytes as they come from the line, or one packet. Lost while off."""
        for found in self._completed(data) if self._conversation else ():
            if self._conversation is None:
                return
            try:
                self._take(self._conversation, found, now)
            except PowerCut as cut:
                self._lose_power(str(cut), now)

    def data_to_send(self, now: float) -> bytes:
        """Return the next frame or packet to send, at the `baud` there was before the call; or nothing."""
        if self._fragments:
            return self._fragments.popleft()
        if self._conversation is None or not self._conversation.outbox:
            return b""
        content = self._conversation.outbox.popleft()
        if self._is_mute:
            return b""
        wire = encode_stream(content) if self._packet is None else self._in_packets(content, self._packet)
        if content[0] == FrameType.BAUD_OK:
            self._speed.switch_after(wire, int.from_bytes(content[-4:], "little"), now)
        if content[0] == FrameType.ACTIVATED and self._restart_at is None:
            self._restart_at = now + len(wire) * 10 / self.baud + _LEAVE_S
        return wire

    def next_deadline(self) -> float | None:
        """When `handle_timeout` is due."""
        if self._conversation is None:
            return self._boot_at
        due = (
            self._restart_at,
            self._conversation.work_at,
            self.bootloader.trial_ends,
            self._speed.deadline(),
        )
        return min((at for at in due if at is not None), default=None)

    def handle_timeout(self, now: float) -> None:
        """Do what has fallen due; harmless when nothing has."""
        if self._conversation is None:
            if now >= self._boot_at:
                self._boot(now)
            return
        self._speed.tick(now)
        if _is_due(self.bootloader.trial_ends, now):
            self._lose_power("the trial is over and nobody has confirmed", now)
        elif _is_due(self._restart_at, now):
            self._lose_power("restarts", now)
        elif _is_due(self._conversation.work_at, now):
            self._speed.heard(now)  # time under BUSY does not count
            try:
                self._conversation.work(now)
            except PowerCut as cut:
                self._lose_power(str(cut), now)

    def _completed(self, data: bytes) -> list[bytes | BrokenFrame | ShortData]:
        if self._packet is None:
            return [*self._deframer.feed(data)]
        found = self._assembler.feed(data)
        return [] if found is None else [found]

    def _take(self, talk: DeviceProtocol, found: bytes | BrokenFrame | ShortData, now: float) -> None:
        if isinstance(found, BrokenFrame):
            talk.gap()
            return
        self._speed.heard(now)
        if isinstance(found, ShortData):
            talk.take_short(found, now)
        else:
            talk.take(found, now)

    def _in_packets(self, content: bytes, most: int) -> bytes:
        """Return the first packet of a frame, and keep the others."""
        self._fragments.extend(split(content, most))
        return self._fragments.popleft() if self._fragments else b""

    def power_cut(self, now: float) -> None:
        """Lose power; it returns immediately, and the device boots."""
        self._lose_power("power cut", now)

    @property
    def _is_mute(self) -> bool:
        return self.profile.break_after_activate and self.bootloader.trial_ends is not None

    def _lose_power(self, why: str, now: float) -> None:
        self._log(why)
        self._conversation = None
        self._fragments.clear()
        self._restart_at = None
        self._speed.reset()
        self._boot_at = now + self.profile.boot_s

    def _boot(self, now: float) -> None:
        done = self.bootloader.boot(now)
        boot_id = next(self._boot_ids)
        self._log(f"boot {boot_id:08x}: {done or f'runs {self.running_version}'}")
        self._deframer = StreamDeframer(self.profile.max_frame)
        self._assembler = Assembler(self.profile.max_frame)
        self._conversation = DeviceProtocol(self.flash, self.bootloader, boot_id, self._log)
        self._conversation.spacing.is_datagram = self._packet is not None


def blank_flash(profile: DeviceProfile) -> Flash:
    """Return factory-new flash as the device has it: journal and slot."""
    return Flash(profile.flash_size, erase_block=profile.erase_block, write_unit=profile.write_unit)


def _is_due(at: float | None, now: float) -> bool:
    return at is not None and now >= at
