"""The receiver in C, asked frame by frame (sim_bench), and what its tests have in common."""

import dataclasses
import hashlib
from typing import TYPE_CHECKING, cast

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.codes import Code
from gatewayd.protocol.rcp.tlv_frames import Confirm, Offer
from gatewayd.simulator.profile import DeviceProfile
from lab.c_receiver import CReceiver, c_device
from lab.receiver_bench import IMAGE, OLD, PROFILE, Bench

if TYPE_CHECKING:
    from gatewayd.simulator.receiver import Receiver

OPTIONS = (
    "erase_ahead",
    "deaf",
    "torn_unreadable",
    "tells_revert",
    "seed",
    "library_path",
    "boot_ids",
    "max_datagram",
)
COPY_SIZE = 88  # at the begin of a journal area


class CBench(Bench):
    """A bench whose device is a CReceiver."""

    def __init__(self, device: CReceiver, packet: int | None = None) -> None:
        self.device = device
        self.confirms = True
        super().__init__(cast("Receiver", device), packet)  # it has that interface, as far as Bench uses it

    def ask(self, frame: frames.Frame) -> list[frames.Frame]:
        is_withheld = isinstance(frame, Confirm) and not self.confirms
        return [] if is_withheld else super().ask(frame)

    @staticmethod
    def sha256(image: bytes) -> bytes:
        return hashlib.sha256(image).digest()

    def make_offer(self, session: int, image: bytes = IMAGE) -> frames.Frame:
        return Offer(session, hashlib.sha256(image).digest(), len(image), "1.0.1")

    def stage_again(self) -> int:
        """Offer an image that was tried once and is whole; return the session."""
        accept = self.offer(second_try=True)[-1]
        assert isinstance(accept, frames.Accept)
        assert isinstance(self.ask(frames.Finish(accept.session))[-1], frames.Finished)
        return accept.session

    def cut_at_flag(self, image: bytes = IMAGE) -> None:
        """Bring an image in and activate it; the power fails between the record and the boot flag."""
        session = self.stage(image)
        flash, profile = self.device.flash, self.device.profile
        record = profile.journal_area // profile.erase_block + -(-COPY_SIZE // profile.write_unit)
        flash.cut_at = flash.operations + record + 1
        self.activate(session, hashlib.sha256(image).digest())
        assert flash.cut_at is None
        self.wait(1)

    def slot_erases(self) -> int:
        first = 2 * self.device.profile.journal_area // self.device.profile.erase_block
        return sum(count for block, count in self.device.flash.erases.items() if block >= first)

    def journal_erases(self) -> int:
        return sum(self.device.flash.erases.values()) - self.slot_erases()


def c_bench(profile: DeviceProfile = PROFILE, *, running: bytes | None = OLD, **changes: object) -> CBench:
    """A device that runs OLD; `changes` are options of CReceiver or fields of the profile."""
    options = {name: changes.pop(name) for name in OPTIONS if name in changes}
    packet = cast("int | None", options.get("max_datagram"))
    return CBench(c_device(dataclasses.replace(profile, **changes), running, **options), packet)  # type: ignore[arg-type]  # by name


def error(session: int, code: Code) -> list[frames.Frame]:
    return [frames.Error(session, code)]


def without_busy(answers: list[frames.Frame]) -> list[frames.Frame]:
    return [answer for answer in answers if not isinstance(answer, frames.Busy)]
