"""Bad devices, each on a real pty in a process of its own: `python -m lab.rogues KIND --port PATH …`.

What a rogue says that is valid is made by the project's own codec. `restarts` is no script: it is the C
receiver behind a relay, killed and started again while the port stays, as a board that resets does behind its
USB adapter.
"""

import argparse
import contextlib
import os
import random
import selectors
import signal
import subprocess
import sys
import time
import tty
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.framing import StreamDeframer, encode_stream
from gatewayd.protocol.rcp.tlv_frames import Hello, Info, Offer
from gatewayd.simulator.terminal import Terminal
from lab.rcp import script

BAUD = 115200
MOST = 2**32 - 1
RCP_DEVICE = Path(__file__).parents[2] / "device" / "build" / "rcp-device"
POLL_S = 0.05
BLOCK = 1 << 20  # of noise, said over and over
BOOT_LOG = b"I (312) app: reset reason 1\r\nW (355) sensor: no answer on i2c-0\r\n"

INFO = replace(script.INFO, version="4.3.1", can_set_baud=False, slot_size=1 << 24, running_sha256=None)
HUGE = replace(
    INFO,
    boot_id=MOST,
    max_frame=65535,
    window=MOST,
    rx_ring=MOST,
    slot_size=MOST,
    erase_block=MOST,
    boot_time_s=65535,
)
Answer = Callable[[frames.Frame], list[bytes]]


def said(*answers: frames.Frame) -> list[bytes]:
    return [encode_stream(frame.to_bytes()) for frame in answers]


def silent(_frame: frames.Frame) -> list[bytes]:
    return []


def claims(frame: frames.Frame) -> list[bytes]:
    """Say that everything is as large as a number can be; take the offer with a credit to match."""
    match frame:
        case Hello(nonce=nonce):
            return said(Info(nonce, HUGE))
        case Offer(session=session):
            return said(frames.Accept(session, 0, 0, MOST))
    return []


def tags(frame: frames.Frame) -> list[bytes]:
    """Answer HELLO with an INFO whose app_id says 255 bytes and has four."""
    if not isinstance(frame, Hello):
        return []
    content = Info(frame.nonce, INFO).to_bytes()
    return [encode_stream(content.replace(b"\x10\x04pump", b"\x10\xffpump"))]


def giants(frame: frames.Frame) -> list[bytes]:
    """Answer with whole and valid frames of 60,000 bytes."""
    session = getattr(frame, "session", 0)
    return [encode_stream(frames.Data(session, 0, bytes(range(1, 251)) * 240).to_bytes())]


Acknowledge = Callable[[frames.Data], int]


def accepting(makes: Callable[[], Acknowledge]) -> Answer:
    """Behave until DATA comes; then acknowledge what `makes` says, made anew for each offer."""
    acknowledge = makes()

    def answer(frame: frames.Frame) -> list[bytes]:
        nonlocal acknowledge
        match frame:
            case Hello(nonce=nonce):
                return said(Info(nonce, INFO))
            case Offer(session=session):
                acknowledge = makes()
                return said(frames.Accept(session, 0, 0, INFO.window))
            case frames.Data(session=session) as data:
                received = acknowledge(data)
                return said(frames.Ack(session, received, 0, received + INFO.window))
        return []

    return answer


def falling() -> Acknowledge:
    """4096 bytes come in, however often they are sent; then each answer says 256 bytes fewer."""
    received, is_full = 0, False

    def acknowledge(data: frames.Data) -> int:
        nonlocal received, is_full
        if is_full:
            received = max(0, received - 256)
        elif data.offset <= received:
            received = min(4096, max(received, data.offset + len(data.payload)))
            is_full = received == 4096
        return received

    return acknowledge


def beyond() -> Acknowledge:
    """Say that there is more than was sent."""
    return lambda _: 20_000


ANSWERS: dict[str, Callable[[], Answer]] = {
    "silent": lambda: silent,
    "dribbles": lambda: accepting(beyond),
    "claims": lambda: claims,
    "tags": lambda: tags,
    "giants": lambda: giants,
    "backwards": lambda: accepting(falling),
    "beyond": lambda: accepting(beyond),
}
FLOODS: dict[str, bytes] = {
    "noise": random.Random(1).randbytes(BLOCK),
    "noise-without-zeros": random.Random(2).randbytes(BLOCK).replace(b"\0", b"\x01"),
    "zeros": bytes(BLOCK),
    "short": b"\x01\0" * (BLOCK // 2),  # the most runs to look at
    "prints": BOOT_LOG * (BLOCK // len(BOOT_LOG)),
}
KINDS = (*ANSWERS, *FLOODS, "echoes", "restarts")
RATES = {"dribbles": 1.0}  # bytes a second; the others as fast as it goes


class Mouth:
    """Writes to a pty: all at once, or at a limited speed. What waits is bounded, as in a UART."""

    MOST = 1 << 16

    def __init__(self, fd: int, rate: float) -> None:
        self._fd, self._rate = fd, rate
        self._waiting = bytearray()
        self._free_at = 0.0

    def say(self, data: bytes) -> None:
        self._waiting += data[: self.MOST - len(self._waiting)]

    @property
    def is_open(self) -> bool:
        """Whether there is something to write, and it is time to."""
        return bool(self._waiting) and time.monotonic() >= self._free_at

    def speak(self) -> None:
        size = len(self._waiting) if not self._rate else max(1, int(self._rate * POLL_S))
        with contextlib.suppress(BlockingIOError):
            written = os.write(self._fd, self._waiting[:size])
            del self._waiting[:written]
            self._free_at = time.monotonic() + (written / self._rate if self._rate else 0.0)


def run(terminal: Terminal, mouth: Mouth, hear: Callable[[bytes], list[bytes]], flood: bytes) -> None:
    """Until SIGTERM: hear, answer, and say `flood` over and over."""
    ready = selectors.DefaultSelector()
    ready.register(terminal.master, selectors.EVENT_READ)
    while True:
        if flood:
            mouth.say(flood)
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if mouth.is_open else 0)
        ready.modify(terminal.master, events)
        for _, event in ready.select(POLL_S):
            if event & selectors.EVENT_READ:
                for answer in hear(terminal.read(65536)):
                    mouth.say(answer)
            if event & selectors.EVENT_WRITE:
                mouth.speak()
        terminal.free_after_crash()


def listener(answer: Answer) -> Callable[[bytes], list[bytes]]:
    """Return what hears frames in bytes and answers them."""
    deframer = StreamDeframer(65535)

    def hear(data: bytes) -> list[bytes]:
        contents = [found for found in deframer.feed(data) if isinstance(found, bytes)]
        return [wire for content in contents for wire in answer(frames.decode(content))]

    return hear


class Restarting:
    """The C receiver on an inner pty, killed every so often; the outer port stays."""

    def __init__(self, terminal: Terminal, command: list[str], port: Path, every_s: float) -> None:
        self._terminal, self._command, self._port, self._every_s = terminal, command, port, every_s

    def run(self) -> None:
        while True:
            device = subprocess.Popen(self._command)
            try:
                self._relay(device, time.monotonic() + self._every_s)
            finally:
                device.kill()
                device.wait()
                self._port.unlink(missing_ok=True)

    def _relay(self, device: subprocess.Popen[bytes], end: float) -> None:
        while not self._port.exists():
            assert device.poll() is None, "rcp-device does not start"
            time.sleep(0.001)
        inner = os.open(self._port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            tty.setraw(inner)
            with selectors.DefaultSelector() as ready:
                ready.register(inner, selectors.EVENT_READ)
                ready.register(self._terminal.master, selectors.EVENT_READ)
                while (left := end - time.monotonic()) > 0:
                    for key, _ in ready.select(min(left, POLL_S)):
                        self._pass_on(inner, from_device=key.fd == inner)
                    self._terminal.free_after_crash()
        finally:
            os.close(inner)

    def _pass_on(self, inner: int, *, from_device: bool) -> None:
        with contextlib.suppress(BlockingIOError):
            if from_device:
                self._terminal.write(os.read(inner, 4096))
            else:
                os.write(inner, self._terminal.read(4096))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--port", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--every-s", type=float, default=3.0)
    given, others = parser.parse_known_args()  # the others are rcp-device's
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    terminal = Terminal(given.port, BAUD)
    try:
        if given.kind == "restarts":
            inner = given.port.with_name(given.port.name + ".inner")
            own = ["--port", str(inner), "--state", str(given.state), "--rate", str(given.rate)]
            Restarting(terminal, [str(RCP_DEVICE), *own, *others], inner, given.every_s).run()
        hear: Callable[[bytes], list[bytes]] = lambda _: []  # noqa: E731 - the default
        if given.kind == "echoes":
            hear = lambda data: [data]  # noqa: E731
        elif given.kind in ANSWERS:
            hear = listener(ANSWERS[given.kind]())
        rate = RATES.get(given.kind, given.rate if given.kind in FLOODS else 0.0)
        run(terminal, Mouth(terminal.master, rate), hear, FLOODS.get(given.kind, b""))
    finally:
        terminal.close()


if __name__ == "__main__":
    main()
