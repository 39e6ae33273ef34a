"""`gatewayctl notify`: let a program tell a person what devices need."""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click

from gatewayd import log
from gatewayd.alerts import events
from gatewayd.alerts.follower import Follower
from gatewayd.alerts.memory import Memory
from gatewayd.alerts.program import Ending, Program
from gatewayd.cli.exits import DONE, REFUSED
from gatewayd.cli.options import Fraction, socket_option

EXAMPLE = events.Event(
    events.FAILED, "pump-1", "0", "pump", "4.3.2", "reverted", "this is a test: nothing has failed"
)


class _Names(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """Names of events, separated by commas."""

    name = "EVENT,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """See click."""
        names = tuple(name.strip() for name in str(value).split(","))
        if unknown := [name for name in names if name not in events.NAMES]:
            self.fail(f"{unknown[0]!r} is none of {', '.join(events.NAMES)}", param, ctx)
        return names


@click.command("notify")
@click.option(
    "--run",
    "program",
    metavar="PROGRAM",
    required=True,
    type=click.Path(path_type=Path),
    help="The program that notifies a person, such as a script that sends a mail.",
)
@click.option(
    "--on",
    "wanted",
    type=_Names(),
    default=",".join(events.DEFAULT),
    show_default=True,
    help=f"What to report: {', '.join(events.NAMES)}.",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to remember what was reported. [default: told.json in $STATE_DIRECTORY, or only in memory]",
)
@click.option(
    "--timeout",
    "limit_s",
    metavar="SECONDS",
    type=Fraction(0.1, 3600),
    default=60.0,
    show_default=True,
    help="How long the program may take; then it is ended, with everything it has started.",
)
@click.option("--test", "is_test", is_flag=True, help="Run the program once, with a made-up failure.")
@socket_option
def command(
    program: Path,
    wanted: tuple[str, ...],
    state: Path | None,
    limit_s: float,
    control_socket: Path,
    *,
    is_test: bool,
) -> None:
    """Run a program when a device or the gateway needs attention: for a mail, or a message to a phone.

    It is run without a shell and without arguments. It finds what happened in GATEWAYD_SUMMARY (one line) and
    on its standard input (the whole text), and in GATEWAYD_EVENT, GATEWAYD_DEVICE, GATEWAYD_CODE,
    GATEWAYD_REASON, GATEWAYD_NEXT_STEP. Nothing is reported twice; a program that fails is run again later.
    Runs in the foreground until SIGTERM, and waits for the daemon.
    """
    log.configure()
    runner = Program(program.absolute(), limit_s)
    runner.check()
    if is_test:
        sys.exit(asyncio.run(_test(runner)))
    memory = Memory.load(state or _state_directory())
    memory.save()
    asyncio.run(_until_stopped(Follower(control_socket, wanted, runner, memory).run()))


async def _test(program: Program) -> int:
    ending = await program.run(events.environment("test", [EXAMPLE]), events.text([EXAMPLE]))
    return DONE if ending is Ending.DONE else REFUSED


async def _until_stopped(work: Coroutine[Any, Any, None]) -> None:
    running = asyncio.create_task(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    await asyncio.wait([running])
    if not running.cancelled():
        running.result()


def _state_directory() -> Path | None:
    """Return the file in the folder that systemd gives the service, if there is one."""
    folder = os.environ.get("STATE_DIRECTORY")
    return Path(folder, "told.json") if folder else None
