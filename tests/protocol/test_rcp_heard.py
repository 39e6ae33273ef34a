"""No answer: the code and the sentence say what came instead."""

import dataclasses
import random

import pytest
from lab.rcp.script import INFO, Script

from gatewayd.codes import meaning
from gatewayd.errors import LinkError
from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.framing import CRC_SIZE, encode_stream, wire_size
from gatewayd.protocol.rcp.tlv_frames import Hello, Info
from gatewayd.protocol.rcp.wire import SHORTEST_ANSWER
from gatewayd.protocol.session import Failed

NOISE = random.Random(1).randbytes(20_000)


def failure(*came: bytes, script: Script | None = None) -> LinkError:
    script = script or Script()
    script.session.identify(script.now, 5.0)
    script.sent()
    for piece in came:
        script.session.receive_data(piece, script.now)
        script.silence_for(0.1)
    script.silence_for(5.0)
    outcome = script.outcome()
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, LinkError)
    assert outcome.error.hint
    return outcome.error


@pytest.mark.parametrize(
    ("came", "code", "words"),
    [
        ([], "no_answer", "not a byte came"),
        ([NOISE], "garbled", "20000 bytes came, and no frame among them"),
        ([NOISE.replace(b"\0", b"")], "garbled", "no frame among them"),
        ([b"\xff" * 40_000], "garbled", "no frame among them"),
        ([bytes(range(32, 127)) + b"\r\n" + bytes(range(128, 256))], "garbled", "no frame among them"),
        ([b"boot ok\r\n", b"main: hello\r\n"], "only_text", "'main: hello'"),
        ([b"boot ok\r\n" * 1000], "only_text", "'boot ok'"),
        ([b"\0still here\0\0boot ok\0"], "only_text", "'still here'"),
        ([b"\xf0\0\xf1", b"boot ok\r\nmain\r\n"], "only_text", "'.boot ok'"),
        ([b"\0", b"\x51", b"\x02", b"\x01", b"\x04"], "incomplete", "only 5 bytes came"),
        ([b"\0", b"\x80", b"\0", b"\x02"], "incomplete", "only 4 bytes came"),
        ([encode_stream(frames.Busy(0, 10).to_bytes())], "no_answer", "1 frames came"),
        ([encode_stream(Info(12345, INFO).to_bytes())], "late", "answers an earlier question"),
    ],
)
def test_what_came_instead(came: list[bytes], code: str, words: str) -> None:
    error = failure(*came)
    assert error.code == code
    assert meaning(error.code).is_silence
    assert error.message.startswith("no answer to HELLO within 5")
    assert words in error.message


def test_what_we_say_ourselves_is_an_echo() -> None:
    assert failure(encode_stream(Hello(1, "gw").to_bytes())).code == "echo"


def test_what_was_heard_before_the_question_does_not_count() -> None:
    script = Script()
    assert failure(NOISE, script=script).code == "garbled"
    assert failure(script=script).code == "no_answer"


def test_a_long_line_is_quoted_in_part() -> None:
    assert len(str(failure(b"x" * 190 + b"\r\n"))) < 300


def test_no_info_is_shorter() -> None:
    shortest = dataclasses.replace(INFO, app_id="a", version=None, running_sha256=None)
    content = Info(0x01010101, shortest).to_bytes()
    assert wire_size(len(content) + CRC_SIZE) >= SHORTEST_ANSWER
    assert len(content) + CRC_SIZE + 3 == SHORTEST_ANSWER
