"""What is fuzzed: each takes any bytes, and raises for an undeclared exception or for work without measure.

The work is counted in calls, as in test_parsers.py, and with the same bounds.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lab.container_sources import Source, sources
from lab.containers import KEY
from lab.parsers import counted
from lab.rcp.script import INFO
from nacl import bindings as sodium

from gatewayd.config import ConfigErrors
from gatewayd.config.document import parse_document
from gatewayd.config.loader import settle
from gatewayd.config.placeholders import fill_in
from gatewayd.control.parse import parse as parse_request
from gatewayd.errors import FirmwareError, RequestError
from gatewayd.ota.container import build, open_container
from gatewayd.ota.patch import PatchEncoding, split_patch
from gatewayd.ota.topic import TopicTemplate
from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.codes import FrameError
from gatewayd.protocol.rcp.framing import StreamDeframer, cobs_size, encode_stream
from gatewayd.protocol.rcp.gateway import RcpGateway
from gatewayd.protocol.session import OUTCOMES, Identified, Image, Staged
from suites.fuzz import smp
from suites.fuzz.measure import EndlessError, within

ROOT = Path(__file__).parents[3]
VECTORS = ROOT / "tests" / "vectors"
MAX_FRAME = 138
IMAGE = Image(random.Random(1).randbytes(3000), bytes(range(32)), "4.3.2")


def patch(data: bytes) -> None:
    encoding = list(PatchEncoding)[data[0] % 2] if data else PatchEncoding.VARINT
    with counted() as steps, suppress(FirmwareError):
        split_patch(data[1:], encoding)
    within(steps.count, 40)


def topic(data: bytes) -> None:
    text, template = data.decode(errors="surrogateescape"), TopicTemplate()
    with counted() as steps:
        found = template.parse(text)
    within(steps.count, 120 + 3 * len(text))
    if found is not None and template.build(found) != text:
        raise AssertionError(text)


@cache
def small_sources() -> list[Source]:
    return [source for source in sources() if len(source.data) < 6000]


@cache
def genuine() -> frozenset[bytes]:
    """SHA-256 of what may be accepted; of the plain form, for to encrypt again gives other bytes."""
    return frozenset(hashlib.sha256(source.plain).digest() for source in small_sources())


def vouched(source: Source, plain: bytes) -> bytes:
    """Replace the trailer by the one that goes with the content: what is behind the signature gets read."""
    content = plain[: -source.trailer]
    if not source.signed:
        return content + hashlib.md5(content, usedforsecurity=False).digest()
    state = sodium.crypto_sign_ed25519ph_state()
    sodium.crypto_sign_ed25519ph_update(state, content)
    secret_key = sodium.crypto_sign_seed_keypair(KEY.seed)[1]
    return content + sodium.crypto_sign_ed25519ph_final_create(state, secret_key)


def container(data: bytes) -> None:
    """The first byte says which keys, and whether cipher and signature are put around the rest."""
    if not data:
        return
    known = small_sources()
    source, is_vouched, is_inside = known[(data[0] >> 2) % len(known)], data[0] & 2, data[0] & 3
    plain = vouched(source, data[1:]) if is_vouched else data[1:]
    message = source.sealed(plain) if is_inside else plain
    with counted() as steps:
        try:
            opened = open_container(message, source.keys, allow_unsigned=False)
        except FirmwareError:
            opened = None
    within(steps.count, 300 + len(message))
    if opened is None:
        return
    if source.signed and not is_vouched and opened.sha256 not in genuine():
        raise AssertionError("changed, and accepted")
    if is_vouched and build(opened.roms, opened.timestamp_ms, KEY.seed if opened.signed else None) != plain:
        raise AssertionError("not all of it is in what was read")


def stream(data: bytes) -> None:
    """Frames out of a line; the first byte says into what pieces it is cut."""
    size, deframer = 1 + (data[0] if data else 0), StreamDeframer(MAX_FRAME)
    with counted() as steps:
        for at in range(1, len(data), size):
            for found in deframer.feed(data[at : at + size]):
                if isinstance(found, bytes):
                    decode(found)
            if len(deframer.unfinished) > cobs_size(MAX_FRAME):
                raise EndlessError("a frame without end is kept")
    within(steps.count, 500 + 40 * len(data))


def frame(data: bytes) -> None:
    """What stands between delimiters and has the right CRC: type and session at least."""
    data = data.ljust(2, b"\0")
    with counted() as steps:
        decode(data)
    within(steps.count, 200 + 14 * len(data))


def decode(content: bytes) -> None:
    try:
        found = frames.decode(content)
    except FrameError:
        return
    if frames.decode(found.to_bytes()) != found:
        raise AssertionError(found)


def session(data: bytes) -> None:
    """A gateway's session: no exception, and what is sent is bounded by what came and by the time."""
    sent = converse(data).traffic.bytes_sent
    if sent > 20_000 + 12_000 * len(data.split(b"\0\0")):
        raise EndlessError(f"{sent} bytes were sent for {len(data)}")


def converse(data: bytes) -> RcpGateway:
    """Let a device introduce itself, then say `data`, piece by piece between two zeros, as time goes by."""
    gateway, now = introduced(), 0.0
    for piece in data.split(b"\0\0"):
        for _ in range(8):
            gateway.data_to_send(now)
        gateway.receive_data(b"\0" + piece + b"\0", now)
        act(gateway, now)
        now += 0.05 if len(piece) % 2 else 2.0
        deadline = gateway.next_deadline()
        if deadline is not None and deadline <= now:
            gateway.handle_timeout(now)
    return gateway


def introduced() -> RcpGateway:
    """A session that knows its device, and is about to offer it an image."""
    gateway = RcpGateway("barn", base_baud=115_200, random=random.Random(1))
    gateway.identify(0.0, 5.0)
    hello = frames.decode(contents(gateway.data_to_send(0.0))[0])
    assert isinstance(hello, frames.Hello)
    gateway.receive_data(encode_stream(frames.Info(hello.nonce, INFO).to_bytes()), 0.0)
    act(gateway, 0.0)
    return gateway


def act(gateway: RcpGateway, now: float) -> None:
    """Do what a worker would do next."""
    while (event := gateway.next_event()) is not None:
        if isinstance(event, Identified):
            gateway.transfer(IMAGE, now)
        elif isinstance(event, Staged):
            gateway.activate(600, now)
        elif isinstance(event, OUTCOMES):
            gateway.identify(now, 5.0)


def contents(wire: bytes) -> list[bytes]:
    return [found for found in StreamDeframer(1024).feed(wire) if isinstance(found, bytes)]


def control(data: bytes) -> None:
    with counted() as steps, suppress(RequestError):
        parse_request(data)
    within(steps.count, 200 + 10 * len(data))


def configuration(data: bytes) -> None:
    with counted() as steps, suppress(ConfigErrors):
        document = parse_document(Path("config.yaml"), data)
        fill_in(document)
        settle(document)
    within(steps.count, 5000 + 200 * len(data))


@dataclass(frozen=True)
class Target:
    """What is fuzzed, and what to begin with."""

    check: Callable[[bytes], None]
    seeds: Callable[[], Iterator[bytes]]

    @property
    def name(self) -> str:
        return self.check.__name__

    @property
    def found(self) -> Path:
        """Where inputs are kept that once failed, each for ever."""
        return VECTORS / "fuzz" / self.name


def patch_seeds() -> Iterator[bytes]:
    yield from (b"\0\2firmware", b"\0\xac\2x", b"\0" + b"\xff" * 9 + b"\1x", b"\1\7x", b"")


def topic_seeds() -> Iterator[bytes]:
    yield from (b"/a/pump/u/4.3", b"/a/pump/u/4.3/s", b"/a/pump/u/18446744073709551615.0/u", b"")


def container_seeds() -> Iterator[bytes]:
    for number, source in enumerate(small_sources()):
        yield bytes([number << 2]) + source.data
        yield bytes([number << 2 | 1]) + source.plain
        yield bytes([number << 2 | 2]) + source.plain


def recorded(direction: str) -> list[bytes]:
    """What the golden conversations say: whole from the gateway (>), without CRC from the device (<)."""
    return [
        bytes.fromhex(line.split()[1].rstrip("?"))
        for file in sorted((VECTORS / "rcp").glob("conversation-*.txt"))
        for line in file.read_text().splitlines()
        if line.startswith(direction)
    ][:60]


def stream_seeds() -> Iterator[bytes]:
    yield b"\x10boot\r\n" + b"".join(recorded(">")[:6])
    yield from (bytes([7]) + wire for wire in recorded(">"))
    yield from (bytes([9]) + encode_stream(content) for content in recorded("<"))


def frame_seeds() -> Iterator[bytes]:
    yield from recorded("<")
    yield frames.Info(1, INFO).to_bytes()
    yield frames.Offer(7, bytes(32), 1, "4.3.1").to_bytes()


def session_seeds() -> Iterator[bytes]:
    (offer,) = contents(introduced().data_to_send(0.0))
    said = [frames.Accept(offer[1], 0, 0, 3000), *(frames.Ack(offer[1], n * 1000, 0, 3000) for n in range(4))]
    yield b"".join(encode_stream(one.to_bytes()) for one in said)
    yield b"".join(encode_stream(content) for content in recorded("<"))


def control_seeds() -> Iterator[bytes]:
    for op in ("status", "devices", "jobs", "watch", "pause", "push", "explain", "job"):
        yield f'{{"v": 1, "op": "{op}", "names": ["a"], "targets": [1], "id": 3, "device": "a"}}'.encode()


def configuration_seeds() -> Iterator[bytes]:
    yield (ROOT / "config.example.yaml").read_bytes()
    for file in sorted((ROOT / "tests" / "config" / "bad").glob("*.yaml")):
        yield file.read_bytes()


TARGETS = {
    target.name: target
    for target in (
        Target(patch, patch_seeds),
        Target(topic, topic_seeds),
        Target(container, container_seeds),
        Target(stream, stream_seeds),
        Target(frame, frame_seeds),
        Target(session, session_seeds),
        Target(control, control_seeds),
        Target(configuration, configuration_seeds),
        Target(smp.smp_frame, smp.smp_frame_seeds),
        Target(smp.smp_console, smp.smp_console_seeds),
        Target(smp.smp_plain, smp.smp_plain_seeds),
        Target(smp.mcuboot, smp.mcuboot_seeds),
    )
}
