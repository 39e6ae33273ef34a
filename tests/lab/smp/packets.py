"""A session and a virtual SMP device, joined by a radio in memory, with a clock that only tests move."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from gatewayd.protocol.smp.gateway import SmpGateway
from gatewayd.protocol.smp.wire import Framing
from gatewayd.simulator.smp.radio import SmpRadio
from gatewayd.simulator.smp.server import ServerProfile, SmpServer
from lab.rcp.radio import Airtime, Radio
from lab.smp.memory import BAUD, Lab, slots

AIRTIME = Airtime(interval_s=0.03, packets=4)


@dataclass
class PacketLab(Lab):
    """See Lab. `pass_on` gets whole packets, of at most `packet` bytes."""

    packet: int = 244
    airtime: Airtime = AIRTIME
    device: SmpRadio = field(init=False)
    outward: Radio = field(init=False)
    homeward: Radio = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.outward, self.homeward = (Radio(self.airtime, random.Random(seed)) for seed in (1, 2))
        self.device = SmpRadio(self.server, self.now)
        self.device.connect(self.packet)
        self.session.set_max_datagram(self.packet)

    def turn(self, at_most: float = math.inf) -> None:
        """Do what is due now, and go to the next time at which something is."""
        deadline = self.session.next_deadline()
        if deadline is not None and deadline <= self.now:
            self.session.handle_timeout(self.now)
        self._carry(">", self.session.data_to_send, self.outward, self.device.receive_data)
        self._carry("<", self.device.data_to_send, self.homeward, self.session.receive_data)
        due = [self.session.next_deadline(), self.device.next_deadline()]
        due += [self.outward.next_arrival(), self.homeward.next_arrival()]
        soonest = min(
            (at for at in due if at is not None and self.now < at < math.inf), default=self.now + 0.1
        )
        self.now = max(self.now + 1e-4, min(at_most, soonest))

    def _carry(
        self,
        way: str,
        give: Callable[[float], bytes],
        radio: Radio,
        take: Callable[[bytes, float], None],
    ) -> None:
        while packet := give(self.now):
            assert len(packet) <= self.packet
            if passed := self.pass_on(way, packet):
                radio.put(passed, self.now, BAUD)
        for packet, _ in radio.arrived(self.now):
            take(packet, self.now)


def make_packet_lab(*, packet: int = 244, airtime: Airtime = AIRTIME, **profile: Any) -> PacketLab:
    """Join a device that has booted and a session."""
    built = replace(ServerProfile(framing=Framing.RAW), **profile)
    session = SmpGateway(datagram=True, boot_s=2)
    return PacketLab(SmpServer(slots(), built, -1.0), session, packet=packet, airtime=airtime)
