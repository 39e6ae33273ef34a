"""Two receivers, in Python and in C, that live through the same: the same bytes, times and power cuts.

What they say is compared after each step, but for what protocol.md leaves to a device: BUSY, how far credit
goes, an ACK that says nothing but more credit, and the speed that a divider really makes.
"""

import hashlib
import itertools
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.framing import StreamDeframer, encode_stream
from gatewayd.protocol.rcp.tlv_frames import Confirm, Hello, Info, Offer
from gatewayd.simulator.profile import DeviceProfile
from lab.rcp.devices import OLD, Device, c_device, python_device

IMAGES = [OLD, *(random.Random(size).randbytes(size) for size in (1, 3000, 9001, 20_000))]
GATEWAYS = ("barn", "shed")
SPEEDS = (115_200, 921_600, 0, 5_000_000)
WAITS_S = (0.0, 0.7, 5.3, 11.9, 31.7)  # no sum of them falls on a limit: each side may count its milliseconds
TRIALS_S = (5, 600)
SETTLE_S = 0.55  # a restart, and the silence after it
BEYOND = 1_000_000  # past any credit


@dataclass(frozen=True)
class Step:
    """One thing that happens to both; `number` chooses among what the verb has to choose from."""

    verb: str
    number: int


class Twins:
    """The two, and what a gateway knows of them. `reached` counts what kinds of answers came."""

    def __init__(self, profile: DeviceProfile) -> None:
        self.devices: tuple[Device, Device] = (python_device(profile), c_device(profile))
        self.now = 0.0
        self.reached: set[str] = set()
        self.profile = profile
        self._deframers = [StreamDeframer(1024), StreamDeframer(1024)]
        self._session = self._received = self._credit = self._boot_id = 0
        self._image = IMAGES[2]
        self._sessions = itertools.cycle(range(1, 256))

    def live(self, step: Step) -> None:
        """Let it happen to both, and compare. Raises AssertionError where they differ."""
        VERBS[step.verb](self, step.number)

    # What may happen

    def hello(self, number: int) -> None:
        self._ask(Hello(number, GATEWAYS[number % 2]))

    def offer(self, number: int) -> None:
        """Offer one of the images, in one of eight ways; every third time in the session before."""
        which, how = divmod(number, 8)
        self._image = image = IMAGES[which % len(IMAGES)]
        if which % 3 or not self._session:
            self._session = next(self._sessions)
        offer = Offer(self._session, hashlib.sha256(image).digest(), len(image), f"1.0.{which % len(IMAGES)}")
        self._ask(replace(offer, from_zero=bool(how & 1), second_try=bool(how & 2)))

    def send(self, number: int) -> None:
        """Send some chunks of the image in order, as far as both have given credit."""
        for _ in range(1 + number % 12):
            at = self._received
            end = min(at + self.profile.max_frame - 10, self._credit, len(self._image))
            self._ask(frames.Data(self._session, at, self._image[at:end]))

    def send_elsewhere(self, number: int) -> None:
        """Send a chunk before or behind what is wanted, or past any credit, or of another image."""
        room = max(0, self._credit - self._received)
        at = (self._received // 2, self._received + room // 2, BEYOND, self._received)[number % 4]
        content = IMAGES[number % len(IMAGES)] if number % 4 == 3 else self._image
        size = min(1 + number % 100, max(0, self._credit - at)) if at != BEYOND else 5
        self._ask(frames.Data(self._session, at, content[:size]))

    def send_broken(self, number: int) -> None:
        """Send a chunk with a bit turned, or its first half."""
        wire = bytearray(encode_stream(frames.Data(self._session, self._received, b"chunk").to_bytes()))
        if number % 2:
            wire[1 + number % (len(wire) - 2)] ^= 1 << number % 8
            self._say(bytes(wire))
        else:
            self._say(bytes(wire[: len(wire) // 2]))

    def finish(self, _number: int) -> None:
        self._ask(frames.Finish(self._session))

    def activate(self, number: int) -> None:
        """Activate what was offered, now and then with something that is not right."""
        sha256 = hashlib.sha256(IMAGES[0] if number % 5 == 4 else self._image).digest()
        boot_id = self._boot_id + (number % 7 == 6)
        self._ask(frames.Activate(self._session, sha256, boot_id, TRIALS_S[number % 2]))

    def confirm(self, number: int) -> None:
        if number % 2:
            self._ask(Confirm(number, version=self.devices[0].running_version))
        else:
            self._ask(Confirm(number, sha256=hashlib.sha256(self._image).digest()))

    def abort(self, number: int) -> None:
        self._ask(frames.Abort(self._session if number % 3 else 0, number % 2))

    def set_baud(self, number: int) -> None:
        self._ask(frames.SetBaud(0, SPEEDS[number % len(SPEEDS)]))

    def garble(self, number: int) -> None:
        """Send content with a right CRC whose bytes are changed, cut or doubled anywhere."""
        dice = random.Random(number)
        kinds: list[frames.Frame] = [
            Hello(7, "barn"),
            Offer(self._session or 1, bytes(32), 3000, "1.0.1"),
            Confirm(7, version="1.0.0"),
            frames.Activate(self._session or 1, bytes(32), 1, 5),
            frames.Data(self._session or 1, BEYOND, b"x"),
        ]
        content = bytearray(dice.choice(kinds).to_bytes())
        for _ in range(dice.randrange(1, 3)):
            at = dice.randrange(len(content))
            content[at : at + dice.randrange(3)] = dice.randbytes(dice.randrange(3))
        if len(content) >= 2 and not leaves_a_choice(bytes(content)):
            self._say(encode_stream(bytes(content)))

    def noise(self, number: int) -> None:
        """Noise, ended where it is longer than a frame: when that is noticed is left to a device."""
        dice = random.Random(number)
        size = dice.choice((1, 5, 40, 2000))
        self._say(dice.randbytes(size) + b"\0" * (size > self.profile.max_frame or number % 2))

    def wait(self, number: int) -> None:
        self._settle(WAITS_S[number % len(WAITS_S)])

    def cut_power(self, number: int) -> None:
        """Cut the power, half the time in the middle of a frame."""
        if number % 2:
            self._say(b"\0" + bytes(range(1, 9)))
        for device in self.devices:
            device.power_cut(self.now)
        self._settle(SETTLE_S)

    # How it is compared

    def _ask(self, frame: frames.Frame) -> None:
        self._say(encode_stream(frame.to_bytes()))

    def _say(self, wire: bytes) -> None:
        for device in self.devices:
            device.receive_data(wire, self.now)
        self._settle(SETTLE_S)

    def _settle(self, seconds: float) -> None:
        end = self.now + seconds
        heard = [self._hear(number, end) for number in range(2)]
        self.now = end
        for frame in (frame for said in heard for frame in said):
            self._learn(frame)
        python, c = (comparable(said) for said in heard)
        assert python == c, f"{python} in Python, {c} in C"
        python_device, c_device = self.devices
        assert python_device.baud == c_device.baud
        assert python_device.running_version == c_device.running_version
        assert python_device.running_image == c_device.running_image

    def _hear(self, number: int, end: float) -> list[frames.Frame]:
        """Let one of them live until a time; return what it says."""
        device, deframer, now = self.devices[number], self._deframers[number], self.now
        said: list[frames.Frame] = []
        while True:
            while wire := device.data_to_send(now):
                said += [frames.decode(found) for found in deframer.feed(wire) if isinstance(found, bytes)]
            due = device.next_deadline()
            if due is None or due > end:
                return said
            now = max(now, due)
            device.handle_timeout(now)

    def _learn(self, frame: frames.Frame) -> None:
        """Know what a gateway would; of two credits the smaller, as the C receiver speaks last."""
        self.reached.add(type(frame).__name__)
        if isinstance(frame, Info):
            self._boot_id = frame.device.boot_id
        elif isinstance(frame, frames.Accept):
            self._received, self._credit = frame.offset, frame.credit
        elif isinstance(frame, frames.Ack | frames.Nak):
            self._received, self._credit = frame.received, frame.credit


def leaves_a_choice(content: bytes) -> bool:
    """Whether protocol.md lets a device take it or not: text as bytes, a tag twice among those it ignores."""
    try:
        frames.decode(content)
    except frames.FrameError as error:
        return re.search("not printable|occurs twice", str(error)) is not None
    return content[0] == frames.FrameType.SET_BAUD  # how near a divider comes to a speed


def comparable(said: list[frames.Frame]) -> list[frames.Frame]:
    """Return what protocol.md leaves no choice in."""
    kept: list[frames.Frame] = []
    for frame in said:
        if isinstance(frame, frames.Busy):
            continue
        if isinstance(frame, frames.Accept | frames.Ack | frames.Nak):
            frame = replace(frame, credit=0)  # noqa: PLW2901 - the same frame, as far as it counts
        elif isinstance(frame, frames.BaudOk):
            frame = replace(frame, actual=frame.baud)  # noqa: PLW2901 - as above
        if not (isinstance(frame, frames.Ack) and kept and _says_as_much(kept[-1], frame)):
            kept.append(frame)
    return kept


def _says_as_much(before: frames.Frame, ack: frames.Ack) -> bool:
    if isinstance(before, frames.Accept):
        return (before.session, before.offset) == (ack.session, ack.received)
    return isinstance(before, frames.Ack | frames.Nak) and (
        (before.session, before.received, before.durable) == (ack.session, ack.received, ack.durable)
    )


VERBS: dict[str, Callable[[Twins, int], None]] = {
    verb.__name__: verb
    for verb in (
        *(Twins.hello, Twins.offer, Twins.send, Twins.send_elsewhere, Twins.send_broken, Twins.finish),
        *(Twins.activate, Twins.confirm, Twins.abort, Twins.set_baud, Twins.garble, Twins.noise),
        *(Twins.wait, Twins.cut_power),
    )
}
