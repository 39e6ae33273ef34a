"""A program names the person for whom it asks: both are recorded, and neither can pass for the other."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from lab.configuration import Lab

from gatewayd.control.operations import ControlContext, ControlOperations
from gatewayd.control.parse import parse
from gatewayd.control.peer import Peer
from gatewayd.errors import RequestError
from gatewayd.planning.commands import CommandResult


class Recorder:
    """In place of the commands: keeps by whom each was given."""

    def __init__(self) -> None:
        self.by: list[str] = []

    async def approve(self, target: str, by: str) -> CommandResult:
        self.by.append(by)
        return CommandResult(target, None, "done")

    cancel = retry = approve

    async def pause(self, names: list[str], by: str) -> tuple[CommandResult, ...]:  # noqa: ARG002 - as commands have it
        self.by.append(by)
        return ()

    resume = pause


@pytest.mark.parametrize(
    "request_", ['{"op": "approve", "targets": ["pump-1"]%s}', '{"op": "pause"%s}'], ids=["approve", "pause"]
)
async def test_both_are_recorded(tmp_path: Path, request_: str) -> None:
    commands = Recorder()
    reconciler = SimpleNamespace(settings=Lab(tmp_path).settings())
    parts = SimpleNamespace(reconciler=reconciler, commands=commands)
    operations = ControlOperations(cast("ControlContext", parts))
    for more in ("", ', "on_behalf_of": "alice"'):
        request = parse((request_ % more).encode())
        assert [one async for one in cast("Any", operations.answer(request, Peer(uid=0)))]
    assert commands.by == ["root", "alice via root"]


@pytest.mark.parametrize("name", ["", "x" * 65, "a\\nb", "a\\u001b[2J", "a\\u009b2J"])
def test_a_name_that_would_disturb_a_log_or_a_terminal_is_refused(name: str) -> None:
    with pytest.raises(RequestError):
        parse(f'{{"op": "approve", "targets": ["pump-1"], "on_behalf_of": "{name}"}}'.encode())
