"""Write the vectors and the conversations, from docs/protocol.md alone.

Uses nothing of gatewayd, so that a mistake in its codec cannot hide in the vectors: run it by hand
and read the diff.
"""

import hashlib
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
NONCE = 0x01020304


def cobs(data: bytes) -> bytes:
    """Cheshire and Baker's algorithm byte by byte."""
    out, block = bytearray(), bytearray()
    for index, byte in enumerate(data):
        if byte:
            block.append(byte)
        if byte == 0 or (len(block) == 254 and index + 1 < len(data)):
            out += bytes([len(block) + 1]) + block
            block.clear()
    # A block of 254 that ends the data is written without a following empty one.
    return bytes(out + bytes([len(block) + 1]) + block)


def frame(type_: int, session: int, body: bytes = b"") -> bytes:
    content = bytes([type_, session]) + body
    return content + struct.pack("<I", zlib.crc32(content))


def wire(frame_: bytes) -> bytes:
    return b"\0" + cobs(frame_) + b"\0"


def packets(frame_: bytes, most: int) -> list[bytes]:
    """What carries a frame on a datagram link."""
    if len(frame_) <= most:
        return [frame_]
    pieces = [frame_[at : at + most - 1] for at in range(0, len(frame_), most - 1)]
    last = len(pieces) - 1
    return [
        bytes([(0x70 if number == last else 0x60) + number]) + piece for number, piece in enumerate(pieces)
    ]


def short_data(session: int, offset: int, payload: bytes) -> bytes:
    return bytes([0x80 + session]) + u16(offset % 65536) + payload


def tlv(*items: tuple[int, bytes]) -> bytes:
    return b"".join(bytes([tag, len(value)]) + value for tag, value in items)


def u8(value: int) -> bytes:
    return struct.pack("<B", value)


def u16(value: int) -> bytes:
    return struct.pack("<H", value)


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def noise(size: int, zeros: bool = True) -> bytes:
    """Bytes that are the same everywhere: SHA-256 of a counter, without zero bytes if so wished."""
    stream = b"".join(hashlib.sha256(u32(n)).digest() for n in range(size // 32 + 1))[:size]
    return stream if zeros else stream.replace(b"\0", b"\1")


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def hello(nonce: int = NONCE) -> bytes:
    return frame(1, 0, tlv((1, u32(nonce)), (2, u8(1)), (3, u8(1)), (4, b"barn-pi")))


def offer(
    session: int, image: bytes, *more: tuple[int, bytes], size: int | None = None, encoding: int = 0
) -> bytes:
    size = len(image) if size is None else size
    body = tlv((0x30, sha(image)), (0x31, u32(size)), (0x32, b"4.3.2"), (0x33, u8(encoding)), *more)
    return frame(3, session, body)


def data(session: int, offset: int, payload: bytes = b"") -> bytes:
    return frame(0x40, session, u32(offset) + payload)


def info(device: "Device", nonce: int = NONCE) -> bytes:
    items = [
        (0x01, u32(nonce)), (0x02, u8(1)), (0x03, u8(1)), (0x10, b"pump"), (0x11, b"pump-rev-b"),
        (0x12, b"pump-1"), (0x13, device.version.encode()), (0x14, u32(device.boot_id)),
        (0x15, u8(device.image_state)), (0x16, u16(1034)), (0x17, u32(4096)), (0x18, u32(8192)),
        (0x19, u32(0x8000)), (0x1A, u32(0x20000)), (0x1B, u32(4096)), (0x1C, u16(8)), (0x1D, u16(2)),
        (0x1E, u32(device.features)), (0x1F, sha(device.running)),
    ]  # fmt: skip
    if device.tried:
        items += [(0x20, sha(device.tried)), (0x21, u8(device.tried_count))]
    return frame(2, 0, tlv(*items))


@dataclass
class Device:
    """What the device in a conversation is; `info` tells it."""

    boot_id: int = 0x11223344
    version: str = "4.3.1"
    running: bytes = b"the image that runs"
    image_state: int = 0
    tried: bytes = b""
    tried_count: int = 0
    packet: int = 0  # bytes that a datagram carries; 0 is a stream

    @property
    def features(self) -> int:
        return 6 if self.packet else 2

    def header(self) -> str:
        facts = (
            "device app_id=pump hardware_id=pump-rev-b device_id=pump-1 max_frame=1034 window=4096 "
            "rx_ring=8192 slot_address=0x8000 slot_size=0x20000 "
            "erase_block=4096 write_unit=8 boot_time_s=2 "
            f"features={self.features} {f'packet={self.packet} ' * bool(self.packet)}"
            f"version={self.version} boot_id={self.boot_id:#x} image_state={self.image_state} "
            f"running_image={self.running.hex()}"
        )
        return facts + (
            f" tried_image={self.tried.hex()} tried_count={self.tried_count}" if self.tried else ""
        )


MINIMAL_INFO = tlv(
    (0x01, u32(NONCE)), (0x02, u8(1)), (0x03, u8(1)), (0x10, b"a"), (0x14, u32(1)), (0x15, u8(0)),
    (0x16, u16(138)), (0x17, u32(128)), (0x18, u32(256)), (0x1A, u32(65536)), (0x1B, u32(1024)),
    (0x1C, u16(1)), (0x1D, u16(1)), (0x1E, u32(0)),
)  # fmt: skip


def frames() -> dict[str, bytes]:
    image = noise(300)
    found = {
        "hello": hello(),
        "info_minimal": frame(2, 0, MINIMAL_INFO),
        "info_full": info(Device(tried=image, tried_count=1, image_state=2)),
        "offer": offer(7, image),
        "offer_from_zero_second_try": offer(7, image, (0x34, b""), (0x35, b"")),
        "accept": frame(4, 7, u32(128) + u32(zlib.crc32(image[:128])) + u32(4096)),
        "have_it": frame(5, 7, sha(image)),
        "refuse": frame(6, 7, u16(0x0305)),
        "finish": frame(7, 7),
        "finished": frame(8, 7, sha(image)),
        "activate": frame(9, 7, sha(image) + u32(0x11223344) + u16(600)),
        "activated": frame(10, 7),
        "confirm_sha256": frame(11, 0, tlv((1, u32(NONCE)), (0x30, sha(image)))),
        "confirm_version": frame(11, 0, tlv((1, u32(NONCE)), (0x32, b"4.3.2"))),
        "confirmed": frame(12, 0, tlv((1, u32(NONCE)))),
        "abort_keep": frame(13, 7, u8(0)),
        "abort_forget": frame(13, 0, u8(1)),
        "aborted": frame(14, 7),
        "busy": frame(15, 7, u32(1500)),
        "not_now": frame(16, 7, u32(3600) + u8(2)),
        "set_baud": frame(17, 0, u32(921600)),
        "baud_ok": frame(18, 0, u32(921600) + u32(923077)),
        "error": frame(19, 7, u16(0x0101)),
        "probe": data(7, 0),
        "ack": frame(0x41, 7, u32(2048) + u32(1024) + u32(6144)),
        "nak": frame(0x42, 7, u32(2048) + u32(0) + u32(6144)),
    }
    for size in (1, 253, 254, 255, 1024):
        found[f"data_{size}"] = data(7, 0x01020304, noise(size))
        found[f"data_{size}_no_zeros"] = data(7, 0x01020304, noise(size, zeros=False))
        found[f"data_{size}_all_zeros"] = data(7, 0, bytes(size))
    for session in range(1, 256):  # a frame of exactly 254 bytes without a zero: COBS' one awkward length
        exact = data(session, 0x01020304, noise(244, zeros=False))
        if 0 not in exact:
            found["data_frame_of_254_no_zeros"] = exact
            break
    return found


def broken() -> list[tuple[str, bytes]]:
    good = frame(0x41, 7, u32(2048) + u32(1024) + u32(6144))
    flipped = bytes([good[0], good[1], good[2] ^ 1]) + good[3:]
    coded = cobs(good)
    return [
        ("bad_crc", wire(flipped)),
        ("bad_crc", wire(good[:-1] + bytes([good[-1] ^ 0x80]))),
        ("too_short", b"\0\1\0"),
        ("too_short", wire(b"\x41\x07\x01\x02\x03")),
        ("too_short", wire(u32(zlib.crc32(b"")))),
        ("too_long", wire(data(7, 0, noise(1100)))),
        ("too_long", b"\0" + b"\x41" * 1040 + b"\0"),
        ("bad_cobs", b"\0" + coded[:-1] + b"\0"),
        ("bad_cobs", b"\0" + bytes([coded[0] + 200]) + coded[1:] + b"\0"),
        ("zero_inside", b"\0" + coded[:9] + b"\0" + coded[10:] + b"\0"),
        ("truncated", b"\0" + coded[:8] + b"\0"),
        ("console_text", b"\0boot: clock 16 MHz\r\n\0"),
        ("nothing", b"\0\0\0\0"),
    ]


def in_packets() -> list[tuple[str, int, bytes]]:
    image = noise(300)
    return [
        ("one_packet", 20, frame(0x41, 7, u32(2048) + u32(1024) + u32(6144))),
        ("fragments", 20, offer(7, image)),
        ("last_one_is_full", 20, frame(0x0B, 0, tlv((1, u32(NONCE)), (0x32, b"1.0." + b"1" * 20)))),
        ("sixteen_fragments", 20, data(7, 0, noise(294))),
        ("as_long_as_a_packet", 24, data(7, 0, noise(14))),
        ("one_byte_more", 24, data(7, 0, noise(15))),
        ("mtu_185", 182, info(Device(tried=image, tried_count=1, packet=182))),
    ]


def broken_packets() -> list[tuple[str, list[bytes]]]:
    """Packets that yield no frame, for a `max_frame` of 138."""
    good = packets(offer(7, noise(300)), 20)
    short = packets(frame(7, 7), 20)
    return [
        ("bad_crc", [short[0][:-1] + bytes([short[0][-1] ^ 1])]),
        ("bad_crc", [*good[:2], good[2][:-1] + bytes([good[2][-1] ^ 1]), *good[3:]]),
        ("too_short", [b"\x41\x07\x01\x02\x03"]),
        ("too_short", [b"\x87\x00"]),
        ("too_long", [data(7, 0, noise(129))]),
        ("too_long", [short_data(7, 0, noise(129))]),
        ("too_long", packets(data(7, 0, noise(150)), 20)),
        ("out_of_order", [good[0], good[2]]),
        ("out_of_order", [good[0], good[1], good[1]]),
        ("out_of_order", good[1:]),
        ("out_of_order", [good[-1]]),
        ("cut_off", good[:-1]),
        ("bad_crc", [good[0], b"\x71" + good[1][1:]]),
    ]


# name, offset expected, offset meant
SHORT_OFFSETS = [
    ("as_expected", 0, 0),
    ("ahead", 1000, 1408),
    ("behind", 1408, 1000),
    ("over_the_edge", 65500, 65536 + 12),
    ("back_over_the_edge", 65536 + 12, 65500),
    ("far", 2**31 + 7, 2**31 + 7 + 32767),
    ("farthest_back", 2**31 + 7, 2**31 + 7 - 32768),
    ("near_the_end", 2**32 - 9, 2**32 - 1),
]


class Script:
    """A conversation being written down."""

    def __init__(self, device: Device, about: str) -> None:
        self.lines = [f"# {about}", device.header()]
        self._packet = device.packet

    def says(self, sent: bytes, *answers: tuple[bytes, str] | bytes, note: str = "") -> None:
        """The gateway sends a frame; each answer is a frame, or a frame and the `?` for its free end."""
        sent_so = packets(sent, self._packet) if self._packet else [wire(sent)]
        for number, part in enumerate(sent_so):
            is_last = number == len(sent_so) - 1
            self.raw(part, *(answers if is_last else ()), note=note if number == 0 else "")

    def raw(self, sent: bytes, *answers: tuple[bytes, str] | bytes, note: str = "") -> None:
        self.lines += [f"# {note}"] * bool(note) + [f"> {sent.hex()}"]
        for answer in answers:
            full, free = answer if isinstance(answer, tuple) else (answer, "")
            content = full[:-4].hex()
            self.lines.append("< " + content[: len(content) - len(free)] + free)

    def restart(self, device: Device) -> None:
        self.lines.append(f"restart boot_id={device.boot_id:#x}")

    def write(self, name: str) -> None:
        (HERE / f"conversation-{name}.txt").write_text("\n".join(self.lines) + "\n")


def ack(session: int, received: int, type_: int = 0x41) -> tuple[bytes, str]:
    return frame(type_, session, u32(received) + bytes(8)), "?" * 16


def nak(session: int, received: int) -> tuple[bytes, str]:
    return ack(session, received, 0x42)


def accept(session: int, offset: int, prefix: bytes = b"") -> tuple[bytes, str]:
    return frame(4, session, u32(offset) + u32(zlib.crc32(prefix[:offset])) + bytes(4)), "?" * 8


def error(session: int, code: int) -> bytes:
    return frame(19, session, u16(code))


def refuse(session: int, code: int) -> bytes:
    return frame(6, session, u16(code))


def activate(session: int, image: bytes, boot_id: int) -> bytes:
    return frame(9, session, sha(image) + u32(boot_id) + u16(600))


def send_all(script: Script, session: int, image: bytes, start: int = 0) -> None:
    for at in range(start, len(image), 128):
        part = image[at : at + 128]
        script.says(data(session, at, part), ack(session, at + len(part)))


def fresh_update() -> None:
    image, device = noise(300), Device()
    script = Script(device, "A whole update of a small image, from HELLO to confirmed.")
    script.says(hello(), info(device))
    script.says(offer(1, image), accept(1, 0))
    script.says(offer(1, image), accept(1, 0), note="The same OFFER again gets the same answer.")
    send_all(script, 1, image)
    script.says(data(1, 0), ack(1, 300), note="A probe.")
    for _ in range(2):
        script.says(frame(7, 1), frame(8, 1, sha(image)))
    script.says(activate(1, image, 0xDEAD), error(1, 0x0103), note="Another boot's ACTIVATE.")
    script.says(activate(1, noise(99), device.boot_id), error(1, 0x0106), note="Another image's ACTIVATE.")
    script.says(activate(1, image, device.boot_id), frame(10, 1))
    device = Device(0x55667788, "4.3.2", image, 1, image, 1)
    script.restart(device)
    script.says(hello(2), info(device, 2))
    script.says(
        frame(11, 0, tlv((1, u32(3)), (0x30, sha(b"x")))), error(0, 0x030A), note="Not the running image."
    )
    for _ in range(2):
        script.says(frame(11, 0, tlv((1, u32(4)), (0x30, sha(image)))), frame(12, 0, tlv((1, u32(4)))))
    device.image_state = 0
    script.says(hello(5), info(device, 5))
    script.says(offer(2, image), frame(5, 2, sha(image)), note="The running image is not taken again.")
    script.write("fresh-update")


def gaps() -> None:
    image, device = noise(2000), Device()
    part = [image[at : at + 128] for at in range(0, 2000, 128)]
    script = Script(device, "Gaps: one NAK per pass; a pass ends when an offset does not rise.")
    script.says(hello(), info(device))
    script.says(offer(1, image), accept(1, 0))
    script.says(data(1, 0, part[0]), ack(1, 128))
    script.says(data(1, 256, part[2]), nak(1, 128), note="128 is missing.")
    script.says(data(1, 384, part[3]), note="The same pass: nothing.")
    script.says(data(1, 512, part[4]))
    script.says(data(1, 128, part[1]), ack(1, 256), note="Gone back.")
    script.says(data(1, 128, part[1]), ack(1, 256), note="Sent twice.")
    script.says(data(1, 192, image[192:320]), ack(1, 320), note="Half of it is new.")
    script.raw(b"\0\x41\x42\x43\0", nak(1, 320), note="A broken frame is a gap.")
    script.raw(b"\0\x41\x42\x43\0", note="In the same pass: nothing.")
    script.says(data(1, 320, image[320:448]), ack(1, 448))
    script.says(data(1, 576, image[576:704]), nak(1, 448))
    script.says(data(1, 576, image[576:704]), nak(1, 448), note="An offset that does not rise: a new pass.")
    script.says(frame(7, 1), nak(1, 448), note="FINISH before the last byte.")
    script.says(data(1, 0), ack(1, 448), note="A probe is answered with ACK even after a gap.")
    script.write("gaps")


def past_the_end() -> None:
    image, device = noise(300), Device()
    script = Script(device, "DATA beyond the image's end.")
    script.says(hello(), info(device))
    script.says(offer(1, image), accept(1, 0))
    script.says(data(1, 0, noise(304)), error(1, 0x0301))
    script.write("past-the-end")


def refusals() -> None:
    device = Device(tried=noise(64), tried_count=1, image_state=2)
    script = Script(device, "What is refused; an image was tried once and reverted.")
    image, big = noise(300), 0x20001
    script.says(hello(), info(device))
    script.says(offer(1, image, size=big), refuse(1, 0x0305), note="too_large")
    script.says(offer(2, image, size=0), refuse(2, 0x0305), note="empty")
    script.says(offer(3, image, encoding=1), refuse(3, 0x0304), note="unknown_encoding")
    script.says(offer(4, image, (0x80, b"")), refuse(4, 0x0303), note="unknown_critical_tag")
    script.says(offer(5, image, (0x30, sha(image))), refuse(5, 0x0301), note="malformed: a tag twice")
    script.says(frame(3, 6, tlv((0x30, sha(image)))), refuse(6, 0x0301), note="malformed: tags are missing")
    script.says(offer(7, noise(64)), refuse(7, 0x0306), note="already_tried")
    script.says(offer(8, device.running), frame(5, 8, sha(device.running)), note="the running image: HAVE_IT")
    script.says(data(9, 0), error(9, 0x0101), note="no_session")
    script.says(frame(7, 9), error(9, 0x0101))
    script.says(activate(9, image, device.boot_id), error(9, 0x0101))
    script.says(frame(0x30, 9), error(9, 0x0302), note="unknown_type")
    script.says(frame(0x41, 9, bytes(12)), note="What only a device sends is ignored.")
    script.says(
        offer(10, image, (0x7F, b"later")), accept(10, 0), note="An unknown tag below 0x80 is ignored."
    )
    script.says(offer(11, noise(64), (0x35, b"")), accept(11, 0), note="second_try")
    script.write("refusals")
    device = Device(tried=noise(64), tried_count=2, image_state=2)
    script = Script(device, "Tried twice: a second try is refused too.")
    script.says(offer(1, noise(64), (0x35, b"")), refuse(1, 0x0306))
    script.write("tried-twice")
    device = Device(image_state=1, tried=Device.running, tried_count=1)
    script = Script(device, "The running image is on trial.")
    script.says(offer(1, image), refuse(1, 0x0104))
    script.write("on-trial")


def other_session() -> None:
    image, device = noise(300), Device()
    script = Script(
        device, "Another session's frames do not disturb the session in use; a new OFFER takes it over."
    )
    script.says(hello(), info(device))
    script.says(offer(1, image), accept(1, 0))
    script.says(data(1, 0, image[:128]), ack(1, 128))
    script.says(data(2, 128, image[128:256]), error(2, 0x0101))
    script.says(frame(7, 2), error(2, 0x0101))
    script.says(data(1, 0), ack(1, 128))
    script.says(offer(2, image), accept(2, 128, image), note="In the same boot what is written is kept.")
    script.says(data(1, 128, image[128:256]), error(1, 0x0101))
    send_all(script, 2, image, 128)
    script.says(frame(13, 2, u8(0)), frame(14, 2), note="ABORT, keeping.")
    script.says(offer(3, image), accept(3, 300, image))
    script.says(frame(13, 0, u8(1)), frame(14, 0), note="ABORT of any session, forgetting.")
    script.says(offer(4, image), accept(4, 0))
    script.says(data(4, 0, image[:128]), ack(4, 128))
    script.says(offer(5, image, (0x34, b"")), accept(5, 0), note="from_zero")
    script.write("other-session")


def restart() -> None:
    image, device = noise(300), Device()
    script = Script(device, "FULL survives a restart, STAGED and the session do not.")
    script.says(hello(), info(device))
    script.says(offer(1, image), accept(1, 0))
    send_all(script, 1, image)
    script.says(frame(7, 1), frame(8, 1, sha(image)))
    device.boot_id = 0x99AABBCC
    script.restart(device)
    script.says(activate(1, image, device.boot_id), error(1, 0x0101))
    script.says(hello(2), info(device, 2))
    script.says(offer(2, image), accept(2, 300, image))
    script.says(activate(2, image, device.boot_id), error(2, 0x0106))
    script.says(frame(7, 2), frame(8, 2, sha(image)))
    script.write("restart")


def packets_of_20() -> None:
    image, device = noise(2000), Device(packet=20)
    part = [image[at : at + 17] for at in range(0, 2000, 17)]
    short = [short_data(5, 17 * number, content) for number, content in enumerate(part)]
    script = Script(device, "Packets of 20 bytes: fragments, short DATA, an ACK for six of them.")
    script.says(hello(), info(device))
    lost = packets(offer(5, image), 20)
    script.raw(lost[0], note="A fragment is missing: the frame is dropped.")
    for fragment in lost[2:]:
        script.raw(fragment)
    script.says(offer(5, image), accept(5, 0))
    for number in range(5):
        script.raw(short[number])
    script.raw(short[5], ack(5, 102))
    script.says(frame(0x40, 5, u32(102) + image[102:110]), note="A plain DATA counts as well.")
    script.says(data(5, 0), ack(5, 110), note="A probe is answered at once.")
    script.raw(short_data(5, 130, image[130:147]), nak(5, 110), note="A gap.")
    script.raw(short_data(5, 147, image[147:164]), note="The same pass.")
    script.raw(short_data(5, 102, image[102:119]), note="Gone back; half of it is new.")
    script.raw(short_data(5, 102, image[102:119]), ack(5, 119), note="Nothing of it is new: an ACK at once.")
    script.raw(short_data(6, 119, image[119:136]), error(6, 0x0101), note="Another session.")
    script.raw(short_data(0, 119, image[119:136]), error(0, 0x0301), note="No session.")
    script.raw(short_data(5, 119, image[119:136]))
    script.raw(lost[0])
    script.raw(short_data(5, 136, image[136:153]), note="It ends the frame begun before it.")
    script.raw(lost[1], nak(5, 153), note="So this fragment is a broken frame, and a gap.")
    at = 153
    while at < len(image):
        batch = [at + 17 * number for number in range(6) if at + 17 * number < len(image)]
        for offset in batch[:-1]:
            script.raw(short_data(5, offset, image[offset : offset + 17]))
        at = min(len(image), batch[-1] + 17)
        script.raw(short_data(5, batch[-1], image[batch[-1] : at]), ack(5, at))
    script.says(frame(7, 5), frame(8, 5, sha(image)))
    script.says(frame(17, 0, u32(921600)), error(0, 0x0102), note="SET_BAUD.")
    script.says(frame(13, 0, u8(0)), frame(14, 0))
    script.says(frame(17, 0, u32(921600)), error(0, 0x0309), note="There is no speed to set.")
    script.write("packets-of-20")


def datagrams() -> None:
    """Write the vectors of packets."""
    lines = ["# name | bytes in a packet | frame with CRC | packets"]
    for name, most, made in in_packets():
        carried = " ".join(one.hex() for one in packets(made, most))
        lines.append(f"{name} | {most} | {made.hex()} | {carried}")
    (HERE / "packets.txt").write_text("\n".join(lines) + "\n")
    lines = ["# reason | packets, for a max_frame of 138"]
    lines += [f"{reason} | {' '.join(one.hex() for one in sent)}" for reason, sent in broken_packets()]
    (HERE / "broken-packets.txt").write_text("\n".join(lines) + "\n")
    lines = ["# name | offset expected | packet | the same as DATA: type, session, body"]
    for name, expected, meant in SHORT_OFFSETS:
        packet, whole = short_data(7, meant, noise(17)), data(7, meant, noise(17))[:-4]
        lines.append(f"{name} | {expected} | {packet.hex()} | {whole.hex()}")
    (HERE / "short-data.txt").write_text("\n".join(lines) + "\n")


def main() -> None:
    lines = ["# name | frame with CRC | wire"]
    lines += [f"{name} | {made.hex()} | {wire(made).hex()}" for name, made in frames().items()]
    (HERE / "frames.txt").write_text("\n".join(lines) + "\n")
    lines = ["# reason | wire, for a max_frame of 1034"]
    lines += [f"{reason} | {sent.hex()}" for reason, sent in broken()]
    (HERE / "broken.txt").write_text("\n".join(lines) + "\n")
    for conversation in (fresh_update, gaps, past_the_end, refusals, other_session, restart, packets_of_20):
        conversation()
    datagrams()


if __name__ == "__main__":
    main()
