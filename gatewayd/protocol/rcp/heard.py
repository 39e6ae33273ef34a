"""What came from a device that gave no answer: silence has many causes, and this tells them apart."""

from dataclasses import dataclass

from gatewayd.errors import LinkError

# The shortest INFO there can be, on a stream.
SHORTEST_ANSWER = 75
_QUOTED = 60  # of a line of text, in a sentence


@dataclass(slots=True)
class Heard:
    """Counts since something was first asked."""

    size: int = 0
    frames: int = 0
    echoes: int = 0  # frames that only a gateway sends
    lines: int = 0
    noise: int = 0  # runs between delimiters that are neither a frame nor text
    last_line: str = ""

    def add_line(self, text: str) -> None:
        """Count a line of text."""
        self.lines += 1
        self.last_line = text


def no_answer(request: str, after_s: float, baud: int, heard: Heard) -> LinkError:
    """Return the error for a request that nothing answered, by what came instead."""
    code, came, hint = _diagnosis(heard)
    return LinkError(
        f"no answer to {request} within {after_s:.3g} s at {baud} baud: {came}", code=code, hint=hint
    )


def _diagnosis(heard: Heard) -> tuple[str, str, str]:
    if not heard.size:
        hint = "is it powered, is the speed right, does its firmware run the receiver?"
        return "no_answer", "not a byte came", hint
    if heard.echoes:
        hint = "are TX and RX joined, or does the other end echo?"
        return "echo", "what is sent comes back", hint
    if heard.lines > heard.noise:
        said = f"it prints text and does not answer, {heard.last_line[:_QUOTED]!r} for instance"
        return "only_text", said, "does its firmware run the receiver, and on this port?"
    if heard.frames:
        hint = "do two programs talk on this line?"
        return "no_answer", f"{heard.frames} frames came, and none of them was the answer", hint
    if heard.size < SHORTEST_ANSWER:
        hint = "does it send that slowly? look at its speed, its firmware and the cable"
        return "incomplete", f"only {heard.size} bytes came, too few for any answer", hint
    hint = "is the speed right? does something else than the receiver talk on this line?"
    return "garbled", f"{heard.size} bytes came, and no frame among them", hint
