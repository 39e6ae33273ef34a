"""The client side of the control socket for an event loop: `client`, without blocking."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import TypeVar

from gatewayd.control.client import ANSWER_TIMEOUT_S, LINE_BYTES, closed, read_answer, silent, unreachable
from gatewayd.control.messages import Message
from gatewayd.control.requests import Request

R = TypeVar("R", bound=Message)


async def ask(path: Path, request: Request, result: type[R], *, timeout_s: float = ANSWER_TIMEOUT_S) -> R:
    """Send one request and return its answer. Raises as `client.ask` does."""
    try:
        async with (
            asyncio.timeout(timeout_s),
            contextlib.aclosing(_answers(path, request, result)) as answers,
        ):
            return await anext(answers)
    except TimeoutError as error:
        raise silent(path, OSError("timed out")) from error


async def subscribe(path: Path, request: Request, result: type[R]) -> AsyncGenerator[R, None]:
    """Send one request and yield answers until the caller closes it.

    Raises DaemonUnreachable when the daemon exits.
    """
    async with contextlib.aclosing(_answers(path, request, result)) as answers:
        async for answer in answers:
            yield answer


async def _answers(path: Path, request: Request, result: type[R]) -> AsyncGenerator[R, None]:
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=LINE_BYTES)
    except OSError as error:
        raise unreachable(path, error) from error
    try:
        # A daemon that stops reading early may still have sent the reason.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            writer.write(request.model_dump_json().encode() + b"\n")
            await writer.drain()
        while (answer := await reader.readline()).endswith(b"\n"):
            yield read_answer(answer, result)
    except OSError as error:
        raise silent(path, error) from error
    finally:
        writer.close()
    raise closed(path)
