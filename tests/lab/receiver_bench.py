"""A receiver on the bench: asked frame by frame, in virtual time; and a stop-and-wait gateway.

`python_bench` puts the one in Python there, `c_receiver_bench.c_bench` the one in C.
"""

import dataclasses
import hashlib
import itertools
import random
from collections.abc import Sequence
from typing import Generic, TypeVar

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.codes import RcpCode
from gatewayd.protocol.rcp.framing import encode_stream
from gatewayd.protocol.rcp.info import RcpInfo
from gatewayd.protocol.rcp.packets import split
from gatewayd.protocol.rcp.tlv_frames import Confirm, Hello, Info, Offer
from gatewayd.protocol.session import ImageState
from gatewayd.simulator.bootloader import Bootloader
from gatewayd.simulator.file_store import MemoryFileStore
from gatewayd.simulator.flash import Flash
from gatewayd.simulator.profile import DeviceProfile
from gatewayd.simulator.receiver import Receiver
from lab.rcp.devices import Device
from lab.rcp.radio import Reader

OLD = random.Random(0).randbytes(700)
IMAGE = random.Random(1).randbytes(9000)
SHA = hashlib.sha256(IMAGE).digest()
Kind = TypeVar("Kind")
Device_co = TypeVar("Device_co", bound=Device, covariant=True)
PROFILE = DeviceProfile(app_id="pump", version="1.0.0", slot_size=65536)


class Bench(Generic[Device_co]):
    """Holds a device and the time. `packet`: what a datagram carries, where the link has them."""

    def __init__(self, device: Device_co, packet: int | None = None) -> None:
        self.device = device
        self.now = 0.0
        self.image_bytes_sent = 0
        self.packet = packet
        self._sessions = itertools.cycle(range(1, 256 if packet is None else 128))
        self._reader = Reader(packet, 512)
        self.hello()  # the device knows its gateway

    def ask(self, frame: frames.Frame) -> list[frames.Frame]:
        """Send one frame; return the answers, without letting time pass."""
        content = frame.to_bytes()
        wires = [encode_stream(content)] if self.packet is None else split(content, self.packet)
        return [answer for wire in wires for answer in self.say(wire)]

    def say(self, wire: bytes) -> list[frames.Frame]:
        self.device.receive_data(wire, self.now)
        return self.answers()

    def answers(self) -> list[frames.Frame]:
        found: list[frames.Frame] = []
        while wire := self.device.data_to_send(self.now):
            contents = self._reader.contents(wire)
            found += [frames.decode(content) for content in contents if isinstance(content, bytes)]
        return found

    def wait(self, seconds: float = 0.0) -> list[frames.Frame]:
        """Let time pass, deadline by deadline; return what the device says of itself."""
        end = self.now + seconds
        found = self.answers()
        while (due := self.device.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.device.handle_timeout(self.now)
            found += self.answers()
        self.now = end
        return found

    def hello(self) -> RcpInfo:
        """Say HELLO until INFO comes."""
        while True:
            for answer in self.ask(Hello(1, "bench")):
                if isinstance(answer, Info):
                    return answer.device
            self.wait(0.1)

    def offer(self, image: bytes = IMAGE, **changes: object) -> list[frames.Frame]:
        offer = Offer(next(self._sessions), hashlib.sha256(image).digest(), len(image), "1.0.1")
        for name, value in changes.items():
            object.__setattr__(offer, name, value)
        return self.ask(offer)

    def data(self, session: int, offset: int, size: int = 1024, image: bytes = IMAGE) -> list[frames.Frame]:
        chunk = image[offset : offset + size]
        self.image_bytes_sent += len(chunk)
        return self.ask(frames.Data(session, offset, chunk))

    def bring_in(self, image: bytes = IMAGE, upto: int | None = None) -> int:
        """Offer and send until `upto`; return the session."""
        accept = self.offer(image)[-1]
        assert isinstance(accept, frames.Accept)
        at = accept.offset
        while at < (len(image) if upto is None else upto):
            answer = self.data(accept.session, at, image=image)[-1]
            assert isinstance(answer, frames.Ack)
            at = answer.received
        return accept.session

    def stage(self, image: bytes = IMAGE) -> int:
        session = self.bring_in(image)
        answers = self.ask(frames.Finish(session)) + self.wait()
        assert isinstance(answers[-1], frames.Finished)
        return session

    def activate(self, session: int, sha256: bytes = SHA, trial_s: int = 600) -> list[frames.Frame]:
        return self.ask(frames.Activate(session, sha256, self.hello().boot_id, trial_s))

    @property
    def unsound(self) -> int:
        """How often it used its flash as no flash can be; the one in Python raises FlashMisuse instead."""
        return 0

    @property
    def record_operations(self) -> int:
        """How many operations of the flash write down that an image was tried."""
        return -(-64 // self.device.profile.write_unit)

    def cut_at_flag(self, image: bytes = IMAGE) -> None:
        """Bring an image in and activate it; the power fails between the record and the boot flag."""
        session = self.stage(image)
        flash = self.device.flash
        flash.cut_at = flash.operations + self.record_operations + 1
        self.activate(session, hashlib.sha256(image).digest())
        assert flash.cut_at is None
        self.wait(1)

    def one_pass(self, image: bytes = IMAGE) -> None:
        """Go once through an update, from HELLO on; stop wherever something else than expected comes."""
        sha256 = hashlib.sha256(image).digest()
        info = self.hello()
        if info.running_sha256 == sha256:
            self.ask(Confirm(3, sha256=sha256))
            return
        second_try = info.tried_sha256 == sha256 and info.image_state is not ImageState.REVERTED
        accept = _last(self._patiently(self.offer(image, second_try=second_try)), frames.Accept)
        at = accept.offset if accept else len(image) + 1
        while accept and at < len(image):
            ack = _last(self.data(accept.session, at, image=image), frames.Ack)
            if ack is None:
                return
            at = ack.received
        if accept and _last(self._patiently(self.ask(frames.Finish(accept.session))), frames.Finished):
            self.ask(frames.Activate(accept.session, sha256, info.boot_id, 600))
            self.wait(1.0)

    def update(self, image: bytes = IMAGE, passes: int = 6) -> bool:
        """Go through it until the device runs the image, confirmed; return whether it does."""
        for _ in range(passes):
            self.one_pass(image)
            self.wait(1.0)
            if self.device.running_image == image and self.hello().image_state is ImageState.CONFIRMED:
                return True
        return False

    def _patiently(self, answers: list[frames.Frame]) -> list[frames.Frame]:
        """Wait for as long as BUSY is the last word."""
        while answers and isinstance(answers[-1], frames.Busy):
            answers = self.wait(0.1) or answers
        return answers


def python_bench(
    profile: DeviceProfile = PROFILE,
    *,
    running: bytes | None = OLD,
    torn_unreadable: bool = False,
    max_datagram: int | None = None,
    **changes: object,
) -> Bench[Receiver]:
    """The receiver in Python on the bench; `changes` are fields of the profile."""
    profile = dataclasses.replace(profile, **changes)  # type: ignore[arg-type]  # fields by name
    files = MemoryFileStore()
    if running is not None:
        files.write("active.bin", running)
    flash = Flash(
        profile.flash_size,
        erase_block=profile.erase_block,
        write_unit=profile.write_unit,
        torn_unreadable=torn_unreadable,
    )
    receiver = Receiver(
        profile, flash=flash, bootloader=Bootloader(files, profile), boot_ids=itertools.count(1)
    )
    if max_datagram is not None:
        receiver.connect(max_datagram)
    return Bench(receiver, max_datagram)


def error(session: int, code: RcpCode) -> list[frames.Frame]:
    return [frames.Error(session, code)]


def without_busy(answers: list[frames.Frame]) -> list[frames.Frame]:
    return [answer for answer in answers if not isinstance(answer, frames.Busy)]


def _last(answers: Sequence[frames.Frame], kind: type[Kind]) -> Kind | None:
    return answers[-1] if answers and isinstance(answers[-1], kind) else None
