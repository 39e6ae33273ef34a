"""Whatever a device, a publisher or even a daemon says, the terminal is not steered by it."""

import re
import time
import types
import typing
from pathlib import Path
from typing import Any

import pytest
from lab.containers import Ran, gatewayctl
from lab.control_server import FakeOperations, serving
from lab.terminals import Terminal
from pydantic import BaseModel

from gatewayd.control import messages
from gatewayd.errors import RequestError

HOSTILE = "x\x1b[31m\x1b]0;owned\x07\x9b2J\r\n\u202e"
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")


def hostile(kind: Any) -> Any:
    """Make a value of a type in which every text is hostile, and nothing is left out."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        return hostile(arguments[0])
    if origin is typing.Literal:
        return arguments[0]
    if origin is tuple:
        return (hostile(arguments[0]),)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind(**{name: hostile(field.annotation) for name, field in kind.model_fields.items()})
    return {str: HOSTILE, int: 7, float: 7.5, bool: True}[kind]


def run(folder: Path, answer: Any, *words: object) -> Ran:
    with serving(folder, FakeOperations(answer)) as path:
        return gatewayctl("--socket", path, *map(str, words))


COMMANDS: list[tuple[type[BaseModel], tuple[object, ...]]] = [
    (messages.DevicesResult, ("devices",)),
    (messages.JobsResult, ("jobs",)),
    (messages.JobResult, ("job", 7)),
    (messages.ExplainDeviceResult, ("explain", "x")),
    (messages.ExplainMessageResult, ("explain", "x", __file__)),
    (messages.OutcomesResult, ("pause",)),
    (messages.ReloadResult, ("reload",)),
]


@pytest.mark.parametrize(("result", "words"), COMMANDS, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_shown_of_it_is_harmless(
    tmp_path: Path, result: type[BaseModel], words: tuple[object, ...]
) -> None:
    ran = run(tmp_path, hostile(result), *words)
    is_partly_refused = result is messages.OutcomesResult
    assert (ran.exit_code, bool(ran.err)) == (is_partly_refused, is_partly_refused)
    assert "owned" in ran.out
    assert not STEERING.search(ran.out + ran.err), ran


def test_nor_by_what_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    ran = run(tmp_path, hostile(messages.WatchResult), "watch")
    assert (ran.exit_code, ran.err) == (0, "")
    assert "owned" in ran.out
    assert not STEERING.search(ran.out)


def test_nor_by_bars(tmp_path: Path) -> None:
    view = hostile(messages.DeviceView).model_copy(update={"state": "transferring"})
    news = messages.WatchResult(gateway="barn", devices=(view,), removed=(HOSTILE,))
    with serving(tmp_path, FakeOperations(news)) as path, Terminal(path, "watch") as terminal:
        terminal.until("gatewayd is gone")
        terminal.press_ctrl_c()
        assert terminal.end() == 0
        assert "owned" in terminal.text
        for commands in ("\x1b[31m\x1b]", "\x1b]0", "\x07", "\x9b", "\u202e"):
            assert commands not in terminal.shown


def test_nor_by_a_refusal(tmp_path: Path) -> None:
    ran = run(tmp_path, RequestError(HOSTILE, code="refused", hint=HOSTILE), "devices")
    assert (ran.exit_code, ran.out) == (1, "")
    assert not STEERING.search(ran.err)
