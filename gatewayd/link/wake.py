"""The wake-up exchange: what has to be said before a firmware listens, for instance `AT+OTA`."""

import asyncio

from gatewayd.errors import LinkError
from gatewayd.link.base import Link

WAKE_TIMEOUT_S = 3.0  # a console that answers at all answers within that
_KEPT = 4096  # of what came; enough for any banner, bounded for a device that floods
_SHOWN = 80


async def wake(link: Link, send: bytes, expect: bytes | None, timeout_s: float = WAKE_TIMEOUT_S) -> None:
    """Send, and wait for `expect` somewhere in what comes. Raises LinkError `wake_failed`."""
    await link.send(send)
    if not expect:
        return
    came = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            while expect not in came:
                came += await link.receive()
                del came[: -max(_KEPT, len(expect))]
    except TimeoutError:
        raise LinkError(
            f"no {expect!r} within {timeout_s:g} s of {send!r}; came: {bytes(came[-_SHOWN:])!r}",
            code="wake_failed",
            hint="compare `wake` in the configuration with the device's firmware, and the baud",
        ) from None
