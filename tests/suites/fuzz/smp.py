"""What is fuzzed of SMP: any bytes are read, or refused as declared, with work bounded by their number."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain

from lab.parsers import counted
from lab.smp.recipes import Recipe, make_image

from gatewayd.errors import FirmwareError
from gatewayd.protocol.smp.console import MAX_LINE, MAX_PACKET, ConsoleDeframer, encode_console
from gatewayd.protocol.smp.errors import MalformedError
from gatewayd.protocol.smp.frames import MAX_PAYLOAD, Frame, Group, ImageCommand, Op
from gatewayd.protocol.smp.mcuboot import read_image
from gatewayd.protocol.smp.plain import PlainDeframer
from suites.fuzz.measure import EndlessError, within

# The most calls for each byte of an answer that is read, written and read again: empty containers in a list.
DECODED = 45


def smp_frame(data: bytes) -> None:
    """One answer as a deframer gives it; the length in its header is put right."""
    if len(data) >= 8:
        data = data[:2] + (len(data) - 8).to_bytes(2, "big") + data[4:]
    with counted() as steps:
        decode(data)
    within(steps.count, 100 + DECODED * len(data))


def decode(data: bytes) -> None:
    try:
        frame = Frame.from_bytes(data)
    except MalformedError:
        return
    if repr(Frame.from_bytes(frame.to_bytes())) != repr(frame):
        raise AssertionError(frame)


def smp_console(data: bytes) -> None:
    """Lines; the first byte says into what pieces they are cut."""
    stream(ConsoleDeframer(), data, 2 * MAX_LINE + MAX_PACKET)


def smp_plain(data: bytes) -> None:
    """The same without framing."""
    stream(PlainDeframer(), data, 2 * MAX_LINE + MAX_PAYLOAD + 8)


def stream(deframer: ConsoleDeframer | PlainDeframer, data: bytes, most_kept: int) -> None:
    size = 1 + (data[0] if data else 0)
    with counted() as steps:
        for at in range(1, len(data), size):
            for found in deframer.feed(data[at : at + size]):
                if isinstance(found, bytes):
                    decode(found)
            if deframer.kept > most_kept:
                raise EndlessError("a frame without end is kept")
    within(steps.count, 500 + (DECODED + 15) * len(data))


def mcuboot(data: bytes) -> None:
    with counted() as steps, suppress(FirmwareError):
        read_image(data)
    within(steps.count, 200 + 2 * len(data))


def answers() -> list[bytes]:
    payloads: list[dict[str, object]] = [
        {"images": [[]] * 1000},  # the most work for its length
        {"off": 70_000},
        {"rc": 10},
        {"err": {"group": 1, "rc": 30}},
        {"images": [{"slot": 0, "version": "1.2.3", "hash": bytes(32), "active": True}]},
    ]
    return [
        Frame(op, Group.IMAGE, ImageCommand.UPLOAD, 7, payload).to_bytes()
        for op in Op
        for payload in payloads
    ]


def smp_frame_seeds() -> Iterator[bytes]:
    yield from answers()


def smp_console_seeds() -> Iterator[bytes]:
    yield from (b"\x10<inf> boot\r\n" + encode_console(frame) for frame in answers())


def smp_plain_seeds() -> Iterator[bytes]:
    yield from (b"\x10boot\r\n" + frame + frame for frame in answers())


def mcuboot_seeds() -> Iterator[bytes]:
    recipes = (Recipe(), Recipe(algorithm="sha512", protected=((0x50, bytes(4)),)), Recipe(flags=0x4))
    yield from chain(map(make_image, recipes), (make_image()[:40], b""))
