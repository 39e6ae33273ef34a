"""Diagnose why a device did not answer, from what was received instead."""

from dataclasses import dataclass

from gatewayd.errors import LinkError

_QUOTED = 60  # of a line of text, in a sentence


@dataclass(slots=True)
class Heard:
    """What was received since a request was first sent."""

    size: int = 0
    frames: int = 0
    echoes: int = 0  # frames that only a gateway sends
    late: int = 0  # answers to an earlier question
    lines: int = 0
    noise: int = 0  # runs between delimiters that are neither a frame nor text
    text_size: int = 0  # characters of all lines
    longest_line: str = ""

    def add_line(self, text: str) -> None:
        """Count a line of text."""
        self.lines += 1
        self.text_size += len(text)
        if len(text) > len(self.longest_line):
            self.longest_line = text


def no_answer(
    request: str, after_s: float, baud: int | None, heard: Heard, *, shortest_answer: int
) -> LinkError:
    """Return the error for an unanswered request, diagnosed from what was received instead.

    Args:
        request: the request's name.
        after_s: how long the wait was.
        baud: the line's speed; None: not a serial line.
        heard: what was received.
        shortest_answer: the least bytes on the wire that an answer can have.
    """
    code, came, hint = next(found for holds, *found in _findings(heard, shortest_answer) if holds)
    speed = f" at {baud} baud" if baud is not None else ""
    if baud is None:
        hint = _WITHOUT_A_LINE.get(code, hint)
    return LinkError(f"no answer to {request} within {after_s:.3g} s{speed}: {came}", code=code, hint=hint)


_WITHOUT_A_LINE = {
    "no_answer": "is it in range, and does its firmware run the receiver?",
    "late": "is the radio's connection interval long, or its firmware too busy?",
    "echo": "does its firmware send back what it gets?",
    "incomplete": "is the radio weak? look at its firmware",
    "garbled": "is its firmware's receiver of another protocol?",
}


def _findings(heard: Heard, shortest_answer: int) -> tuple[tuple[bool, str, str, str], ...]:
    """Return rows of: whether it holds, code, what came, next step. The first that holds is reported."""
    return (
        (
            not heard.size,
            "no_answer",
            "not a byte came",
            "is it powered, is the speed right, does its firmware run the receiver?",
        ),
        (
            heard.echoes > 0,
            "echo",
            "what is sent comes back",
            "are TX and RX joined, or does the other end echo?",
        ),
        (
            # Binary data may hold a line by chance, but does not consist of them.
            heard.lines > heard.noise and 2 * heard.text_size > heard.size,
            "only_text",
            f"it prints text and does not answer, {heard.longest_line[:_QUOTED]!r} for instance",
            "does its firmware run the receiver, and on this port?",
        ),
        (
            heard.late > 0,
            "late",
            "what came answers an earlier question",
            "is the line slower than its baud says, or its firmware too busy?",
        ),
        (
            heard.frames > 0,
            "no_answer",
            f"{heard.frames} frames came, and none of them was the answer",
            "do two programs talk on this line?",
        ),
        (
            heard.size < shortest_answer,
            "incomplete",
            f"only {heard.size} bytes came, too few for any answer",
            "does it send that slowly? look at its speed, its firmware and the cable",
        ),
        (
            True,
            "garbled",
            f"{heard.size} bytes came, and no frame among them",
            "is the speed right? does something else than the receiver talk on this line?",
        ),
    )
