"""`gatewayctl` as the transcripts run it: a farm's folder looks like the root of a gateway's file system.

The program is the real one. What differs from machine to machine is put right before lines are wrapped, for
then it would be too late: the folder before every path, the port of the broker, and the user's name.
"""

import os
import pwd
import re
import sys
import textwrap
from typing import TypeVar

from gatewayd.cli.ctl import main
from gatewayd.control import client
from gatewayd.control.messages import Message

R = TypeVar("R", bound=Message)

ROOT = os.environ["TRANSCRIPT_ROOT"]
BROKER = f"127.0.0.1:{os.environ['TRANSCRIPT_BROKER_PORT']}"
USER = pwd.getpwuid(os.getuid()).pw_name
_BY_USER = re.compile(rf'\b((?:by|for|of)(?: |":"))(?:{re.escape(USER)})\b')

read_answer, wrap = client._read, textwrap.TextWrapper.wrap  # noqa: SLF001 - below all that lays text out


def as_on_a_gateway(text: str) -> str:
    """What the same text would be on a gateway."""
    return _BY_USER.sub(r"\1root", text.replace(ROOT, "").replace(BROKER, "127.0.0.1:1883"))


def _read(answer: bytes, result: type[R]) -> R:
    return read_answer(as_on_a_gateway(answer.decode()).encode(), result)


def _wrap(self: textwrap.TextWrapper, text: str) -> list[str]:
    return wrap(self, as_on_a_gateway(text))


def _argument(word: str) -> str:
    return ROOT + word if word.startswith("/") and os.path.lexists(ROOT + word) else word


if __name__ == "__main__":
    client._read = _read  # noqa: SLF001 - see above
    textwrap.TextWrapper.wrap = _wrap  # type: ignore[method-assign]
    sys.argv[1:] = map(_argument, sys.argv[1:])
    main()
