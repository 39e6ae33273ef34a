"""The receiver in C, asked frame by frame (receiver_bench), and what its tests have in common."""

import dataclasses
import hashlib
from typing import cast

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.tlv_frames import Confirm, Offer
from gatewayd.simulator.profile import DeviceProfile
from lab.c_receiver import CReceiver, c_device
from lab.receiver_bench import IMAGE, OLD, PROFILE, Bench

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


class CBench(Bench[CReceiver]):
    """A bench whose device is a CReceiver."""

    def __init__(self, device: CReceiver, packet: int | None = None) -> None:
        self.confirms = True
        super().__init__(device, packet)

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

    @property
    def unsound(self) -> int:
        """Writes over what is not blank, and the like, as its flash counted them."""
        return self.device.flash.unsound

    @property
    def record_operations(self) -> int:
        """Count the erases of a journal area and the units of a record's copy."""
        profile = self.device.profile
        return profile.journal_area // profile.erase_block + -(-COPY_SIZE // profile.write_unit)

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
