"""Frames to bytes and back for one line, with the device's console in between."""

import re
from collections.abc import Iterator
from dataclasses import replace

from gatewayd.protocol.rcp.frames import FROM_GATEWAY, Frame, FrameError, decode
from gatewayd.protocol.rcp.framing import BrokenFrame, StreamDeframer, encode_stream, seal, unseal
from gatewayd.protocol.rcp.heard import Heard
from gatewayd.protocol.rcp.tagged import Info
from gatewayd.protocol.session import Console, Traffic

MAX_FRAME = 512  # what a gateway takes; the longest INFO has less
_CONSOLE_LINE = 200
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_LEAST_TEXT = 2  # fewer characters are noise


class Wire:
    """A stream, or datagrams. Counts what passes in `traffic`."""

    def __init__(self, traffic: Traffic, *, datagram: bool) -> None:
        self._traffic = traffic
        self._datagram = datagram
        self._deframer = StreamDeframer(MAX_FRAME)
        self._heard = Heard()

    def listen_anew(self) -> None:
        """Something is asked now: what was heard before is no answer to it."""
        self._heard = Heard()

    def heard(self) -> Heard:
        """What came since, with the text in it that nothing has ended yet."""
        found = replace(self._heard)
        unfinished = self._deframer.unfinished
        if b"\n" in unfinished:
            for line in console_lines(unfinished):
                found.add_line(line)
        return found

    def encode(self, frame: Frame) -> bytes:
        """Return what travels."""
        content = frame.to_bytes()
        wire = seal(content) if self._datagram else encode_stream(content)
        self._traffic.bytes_sent += len(wire)
        return wire

    def decode(self, data: bytes) -> Iterator[Frame | FrameError | Console]:
        """Yield what bytes complete; a FrameError for a frame that came whole and is not as it has to be."""
        self._traffic.bytes_received += len(data)
        self._heard.size += len(data)
        for found in [unseal(data, MAX_FRAME)] if self._datagram else self._deframer.feed(data):
            if isinstance(found, BrokenFrame):
                yield from self._not_a_frame(found.run)
                continue
            self._heard.frames += 1
            self._heard.echoes += found[0] in FROM_GATEWAY
            try:
                frame = decode(found)
            except FrameError as error:
                yield error
                continue
            self._heard.late += isinstance(frame, Info)  # the right one ends the question
            yield frame

    def _not_a_frame(self, run: bytes) -> Iterator[Console]:
        lines = console_lines(run) if len(run) >= _LEAST_TEXT else []
        self._traffic.broken_frames += not lines
        self._heard.noise += not lines
        for line in lines:
            self._heard.add_line(line)
            yield Console(line)


def console_lines(run: bytes) -> list[str]:
    """Return the lines of text in what is no frame; binary noise has none."""
    lines = (_sanitised(line) for line in _ESCAPES.sub("", run.decode(errors="replace")).splitlines())
    return [line[at : at + _CONSOLE_LINE] for line in lines for at in range(0, len(line), _CONSOLE_LINE)]


def _sanitised(line: str) -> str:
    """Return a line with a dot for what cannot be shown; nothing when that is more than a quarter."""
    line = line.strip()
    if 4 * line.count("\ufffd") > len(line):
        return ""  # so is nearly all noise, at a fraction of what looking at each character costs
    text = "".join(char if char.isprintable() and char != "\ufffd" else "\0" for char in line)
    is_text = len(text) >= _LEAST_TEXT and 4 * text.count("\0") <= len(text)
    return text.replace("\0", ".") if is_text else ""
