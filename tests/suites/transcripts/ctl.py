"""`gatewayctl` as the transcripts run it: a farm's folder looks like the root of a gateway's file system.

The program is the real one. What differs from machine to machine is put right before lines are wrapped, for
then it would be too late: the folder before every path, the port of the broker, and the user's name.
"""

import os
import pwd
import re
import sys
import textwrap

from gatewayd.cli import formatting
from gatewayd.cli.ctl import main

USER = pwd.getpwuid(os.getuid()).pw_name
_BY_USER = re.compile(rf'\b((?:by|for|of)"?[: ]+"?){re.escape(USER)}\b')
printable, wrap = formatting.printable, textwrap.TextWrapper.wrap


def as_on_a_gateway(text: str, root: str, broker_port: str) -> str:
    """What the same text would be on a gateway: `root` is the farm's folder."""
    text = text.replace(root, "").replace(f"127.0.0.1:{broker_port}", "127.0.0.1:1883")
    return _BY_USER.sub(r"\1root", text)


def _ours(text: str) -> str:
    return as_on_a_gateway(text, os.environ["TRANSCRIPT_ROOT"], os.environ["TRANSCRIPT_BROKER_PORT"])


def _printable(text: str | None) -> str:
    return printable(_ours(text or ""))


def _wrap(self: textwrap.TextWrapper, text: str) -> list[str]:
    return wrap(self, _ours(text))


def _argument(word: str) -> str:
    path = os.environ["TRANSCRIPT_ROOT"] + word
    return path if word.startswith("/") and os.path.lexists(path) else word


if __name__ == "__main__":
    # Before the commands are imported, which is when they are asked for.
    formatting.printable = _printable
    textwrap.TextWrapper.wrap = _wrap  # type: ignore[method-assign]
    sys.argv[1:] = map(_argument, sys.argv[1:])
    main()
