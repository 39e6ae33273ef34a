"""A virtual device that differs from an ordinary one in some of its answers."""

from collections.abc import Callable
from typing import Any

from gatewayd.protocol.smp.frames import Group, ImageCommand, Op, OsCommand

from .memory import Lab

Answer = Callable[[Any], dict[str, Any]]


def change_answers(lab: Lab, change: Callable[[Any, Answer], dict[str, Any]]) -> None:
    """Let a test answer in the server's place; it gets the request and what would answer it."""
    ordinary = lab.server._answer  # noqa: SLF001 - a server that differs in one answer
    lab.server._answer = lambda asked: change(asked, ordinary)  # type: ignore[method-assign]  # noqa: SLF001 - as above


def is_upload(asked: Any) -> bool:
    return (asked.group, asked.command) == (Group.IMAGE, ImageCommand.UPLOAD)


def is_parameters(asked: Any) -> bool:
    return (asked.group, asked.command) == (Group.OS, OsCommand.PARAMS)


def is_test(asked: Any) -> bool:
    is_state = (asked.group, asked.command, asked.op) == (Group.IMAGE, ImageCommand.STATE, Op.WRITE)
    return is_state and asked.payload.get("confirm") is False
