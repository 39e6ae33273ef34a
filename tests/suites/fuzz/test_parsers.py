"""Whatever a parser is given, it reads it or raises the error that it declares, and does not work for long.

The work is counted in calls, never timed: with a limit for each input and for each byte.
"""

from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from lab.container_sources import Source, sources
from lab.parsers import THOROUGH, anywhere, counted, edited, words
from lab.rcp.script import INFO

from gatewayd.config import ConfigErrors
from gatewayd.config.document import parse_document
from gatewayd.config.loader import settle
from gatewayd.control.parse import parse as parse_request
from gatewayd.errors import ConfigError, FirmwareError, GatewaydError, RequestError
from gatewayd.ota.container import open_container
from gatewayd.ota.keys import OtaKey, parse_ota_key, parse_raw_key
from gatewayd.ota.patch import PatchEncoding, split_patch
from gatewayd.ota.topic import TopicTemplate
from gatewayd.ota.version import Version
from gatewayd.protocol.console import console_lines
from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.codes import FrameError
from gatewayd.protocol.rcp.framing import BrokenFrame, StreamDeframer, cobs_size, encode_stream

FILE = Path("config.yaml")
# Where something is put in, and in the place of how much; the fields stand in front.
EDITS = [(at, length) for at in (*range(48), 900, 2073, 3020, 3024, 3040, 5550) for length in (0, 1, 2, 40)]
SMALL = [source for source in sources() if len(source.data) < 6000]
noise = st.binary(max_size=40)


def tried(parse: Callable[[], object], *errors: type[GatewaydError]) -> tuple[object, int]:
    """Return what was read, or the error, and the steps it took; any other exception is a failure."""
    with counted() as steps:
        try:
            result = parse()
        except errors as error:
            result = error
    return result, steps.count


# -- firmware


@THOROUGH
@given(st.sampled_from(PatchEncoding), st.integers(0, 12), noise)
def test_a_patch_header(encoding: PatchEncoding, groups: int, rest: bytes) -> None:
    message = bytes(0x80 | byte for byte in rest[:groups]) + rest[groups:]
    result, steps = tried(lambda: split_patch(message, encoding), FirmwareError)
    if isinstance(result, FirmwareError):
        assert result.code in {"patch_truncated", "patch_overflow", "empty_firmware"}
    else:
        patch, body = split_patch(message, encoding)
        assert 0 <= patch < 2**64
        assert body.obj is message
        assert 1 <= len(message) - len(body) <= 10
    assert steps <= 40, "ten bytes are looked at, however long the message is"


TEMPLATES = [
    TopicTemplate(),
    TopicTemplate("a/{app_id}/u/{major}.{minor}"),
    TopicTemplate("{major}-{minor}/{app_id}"),
]
NUMBERS = ["0", "3", "4", "10", "9" * 19, "18446744073709551615", "18446744073709551616", "03", "", "٣"]
TOPICS = [
    f"{root}{app_id}/u/{major}.{minor}{suffix}"
    for root in ("/a/", "/a/", "a/", "/a//")
    for app_id in ("pump", "a.b", "é", "x" * 64, "x" * 65, "\ud800")
    for major in NUMBERS
    for minor in NUMBERS
    for suffix in ("", "/s", "/u", "/x")
]


TOPIC_PIECES = anywhere(["/", "+", "\0", "4", "u", "#", "."], 20)


@THOROUGH
@given(st.sampled_from(TEMPLATES), st.sampled_from(TOPICS), words(TOPIC_PIECES, 2))
def test_a_topic(template: TopicTemplate, text: str, extra: list[tuple[int, str]]) -> None:
    text = edited(text, extra)
    result, steps = tried(lambda: template.parse(text))
    if result is not None:
        topic = template.parse(text)
        assert topic is not None
        assert template.build(topic) == text
    assert steps <= 120 + 3 * len(text)


@THOROUGH
@given(st.sampled_from(SMALL), st.booleans(), words(EDITS, 3), st.binary(max_size=4))
def test_a_container(source: Source, inside: bool, edits: list[tuple[int, int]], new: bytes) -> None:
    data = bytearray(source.plain if inside else source.data)
    for place, length in edits:
        data[place : place + length] = new
    message = source.sealed(bytes(data)) if inside else bytes(data)
    result, steps = tried(lambda: open_container(message, source.keys, allow_unsigned=False), FirmwareError)
    if isinstance(result, FirmwareError):
        assert result.code in CONTAINER_CODES
    else:
        assert bytes(data) == (source.plain if inside else source.data), "changed, and accepted"
    assert steps <= 300 + len(message)


CONTAINER_CODES = {
    *(
        "bad_magic",
        "truncated",
        "trailing_bytes",
        "reserved_not_zero",
        "bad_timestamp",
        "no_roms",
        "empty_rom",
    ),
    *("rom_too_large", "bad_signature", "bad_md5", "decrypt_failed", "bad_tag", "no_final", "second_final"),
    *("unsigned", "not_encrypted"),
}


@THOROUGH
@given(
    st.binary(max_size=140)
    | st.binary(min_size=32, max_size=32)
    | st.binary(min_size=63, max_size=65).map(lambda raw: raw.hex(" ", 64).encode() + b"\n")
)
def test_key_files(content: bytes) -> None:
    result, steps = tried(lambda: parse_ota_key(content), ConfigError)
    assert steps <= 60
    if isinstance(result, OtaKey):
        assert parse_ota_key(result.to_file()) == result
    else:
        assert isinstance(result, ConfigError)
        assert (result.code, str(content) in str(result)) == ("bad_key", False)
    result, steps = tried(lambda: parse_raw_key(content, "the key"), ConfigError)
    assert isinstance(result, ConfigError) == (len(content) != 32)
    assert steps <= 60


VERSIONS = [f"{major}.{minor}.{patch}" for major in NUMBERS for minor in NUMBERS for patch in NUMBERS]


VERSION_PIECES = anywhere([*".0-+ \n", "x", "4.3"], 20)


@THOROUGH
@given(st.sampled_from(VERSIONS), words(VERSION_PIECES, 2))
def test_a_version(text: str, extra: list[tuple[int, str]]) -> None:
    text = edited(text, extra)
    result, steps = tried(lambda: Version.parse(text), FirmwareError)
    if isinstance(result, FirmwareError):
        assert result.code == "bad_version"
    else:
        assert str(result) == text
    assert steps <= 40


# -- the line

WHOLE = [
    encode_stream(frame.to_bytes())
    for frame in (
        frames.Ack(7, 1024, 0, 4096),
        frames.Data(7, 0, b"\0" * 40),
        frames.Finish(7),
        frames.NotNow(0, 5, 1),
    )
]
PIECES = [*WHOLE, b"\0", b"\0\0\0", b"boot\r\n", b"\xff" * 30, b"\x05" * 200, WHOLE[0][:-3], WHOLE[1][3:]]
MAX_FRAME = 138


@THOROUGH
@given(words(PIECES, 8), noise)
def test_a_stream_of_frames(said: list[bytes], rest: bytes) -> None:
    said = [*said, rest]
    deframer, size = StreamDeframer(MAX_FRAME), sum(map(len, said))
    found: list[bytes | BrokenFrame] = []
    with counted() as steps:
        for piece in said:
            found += deframer.feed(piece)
            assert len(deframer.unfinished) <= cobs_size(MAX_FRAME)
    runs = [one.run if isinstance(one, BrokenFrame) else one for one in found]
    assert sum(map(len, runs)) + len(deframer.unfinished) <= size, "nothing is said twice"
    for run in runs:
        assert all(line.isprintable() for line in console_lines(run))
    assert steps.count <= 20 * len(said) + 12 * size + 10


HEADS = [bytes((kind, session)) for kind in (*frames.FrameType, 0, 0x60, 0xFF) for session in (0, 7)]
WRITTEN = [
    frame.to_bytes()
    for frame in (
        frames.Info(1, INFO),
        frames.Hello(1, "barn"),
        frames.Offer(7, bytes(32), 1, "4.3.1"),
        frames.Confirm(1, bytes(32)),
        frames.Confirmed(1),
    )
]
VALUES = [b"", b"\1", b"\0\1", bytes(4), b"pump", b"4.3.1", b"\xff\xfe", bytes(32)]
TAGS = [*range(1, 5), *range(0x10, 0x22), *range(0x30, 0x36), 0x7F, 0x80, 0xFF]
TLVS = [
    bytes([tag, (len(value) + lie) % 256]) + value
    for tag in TAGS
    for value in VALUES
    for lie in (0, 0, 0, 1, -1)
]


TLV_PLACES = [(at, tlv) for at in (0, 1, 2, 2, 2, 8, 20, 99, 200) for tlv in [*TLVS, b"\x01", b"\xff" * 9]]


@THOROUGH
@given(st.sampled_from(HEADS + WRITTEN * 8), words(TLV_PLACES, 4))
def test_a_frame(start: bytes, tlvs: list[tuple[int, bytes]]) -> None:
    content = edited(start, tlvs)
    with counted() as steps:
        try:
            frame = frames.decode(content)
        except FrameError:
            frame = None
    assert frame is None or frames.decode(frame.to_bytes()) == frame
    assert steps.count <= 200 + 12 * len(content)


# -- people

SAID = [
    '"watch"',
    '"push"',
    '"devices"',
    '"job"',
    "1",
    "null",
    "-1e999",
    '"\\ud800"',
    "NaN",
    "[]",
    "{}",
    "[[7]]",
    "tru",
    "\xff",
]
KEYS_SAID = ["v", "op", "op", "op", "names", "targets", "device", "devices", "id", "topic", "version", "\xe9"]
FIELDS = [f'"{key}": {value}' for key in KEYS_SAID for value in SAID]
STARTS = [
    '"v": 1',
    '"op": "watch"',
    *(f'"v": 1, "op": "{op}"' for op in ("status", "jobs", "devices", "watch", "pause")),
]


@THOROUGH
@given(st.sampled_from(STARTS), words(FIELDS, 3), noise)
def test_a_control_request(start: str, fields: list[str], end: bytes) -> None:
    line = ("{" + ",".join([start, *fields]) + "}").encode("latin-1") + (end if end[:1] > b"\x80" else b"")
    result, steps = tried(lambda: parse_request(line), RequestError)
    if isinstance(result, RequestError):
        assert result.code in {"bad_request", "protocol_version"}
        assert len(result.message) < 300
    assert steps <= 200 + 10 * len(line)


WORDS = r"""mqtt: host: port: keys: devices: defaults: link: uart: name: app_id: version: wake: send: tls:
gateway: - ? ! & * &a *a << | > % @ ` [ ] { } , : # ' " \ --- ... !!str %YAML yes 4.10 0x10 12:30 null true
~ 1_0 "4.3.1" a /dev/x 115200 "\ud800" "\UFFFFFFFF" "\x00" é"""
YAMLISH = [*WORDS.split(), "\n", "\n", "\n  ", "\n    ", "\n  - ", " ", "\t", "\r", "\ufeff"]
GOOD = b"mqtt: {host: a}\ndevices: [{name: p, app_id: p, version: 4.3.1, link: {uart: /dev/p}}]\n"


YAML_PIECES = [(at, word.encode(errors="replace")) for at in (0, 4, 9, 17, 99) for word in YAMLISH]
YAML_PIECES += [(at, byte) for at in (0, 9, 99) for byte in (b"\xff", b"\xc3\xa9", b"\0")]


@THOROUGH
@given(st.sampled_from([b"", b"", b"", GOOD]), words(YAML_PIECES, 5))
def test_a_configuration(start: bytes, extra: list[tuple[int, bytes]]) -> None:
    content = edited(start, extra)
    result, steps = tried(lambda: settle(parse_document(FILE, content)), ConfigErrors)
    if isinstance(result, ConfigErrors):
        assert result.mistakes
        assert all(mistake.file == FILE for mistake in result.mistakes)
    assert steps <= 5000 + 200 * len(content)
