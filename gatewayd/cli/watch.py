"""`gatewayctl watch`: show transfers live until Ctrl-C, and reconnect if the daemon restarts."""

import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Self

import click
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gatewayd.cli.devices import progress_text
from gatewayd.cli.formatting import because, duration, echo, is_on_terminal, plural, printable, speed
from gatewayd.cli.options import json_option, socket_option
from gatewayd.control.client import DaemonUnreachable, subscribe
from gatewayd.control.messages import DeviceView, WatchResult
from gatewayd.control.requests import Watch

RECONNECT_S = 1.0
# States with something to show.
_MOVING = {"transferring", "staged", "activating"}
_BAR_COLUMNS = 18
_NAME_COLUMNS = 16
# Kept free around the bars, so that nothing scrolls.
_SPARE_LINES = 4
# Without a terminal, a transfer is printed as a line at each step of this size.
_STEP_PERCENT = 10


@click.command()
@socket_option
@json_option
def command(control_socket: Path, as_json: bool) -> None:
    """Show all transfers live: speed, time left, resumes. Press Ctrl-C to stop.

    Draws bars on a terminal, and otherwise prints a line for each change; --json prints the daemon's
    messages, one object a line. Waits for the daemon if it is restarted.
    """
    shown: _Lines | _Bars | _Json
    if as_json:
        shown = _Json()
    elif is_on_terminal():
        shown = _Bars()
    else:
        shown = _Lines()
    try:
        with shown:
            _follow(control_socket, shown.show, shown.say)
    except KeyboardInterrupt:
        return


def _follow(path: Path, show: Callable[[WatchResult], None], say: Callable[[str], None]) -> None:
    """Show news until interrupted. Raises DaemonUnreachable if the daemon never answered."""
    was_there = is_told = False
    seen: set[str] = set()
    while True:
        try:
            for news in _subscription(path, seen):
                if is_told:
                    say("gatewayd is back")
                was_there, is_told = True, False
                show(news)
        except DaemonUnreachable:
            if not was_there:
                raise
            if not is_told:
                say("gatewayd is gone; waiting for it")
            is_told = True
            time.sleep(RECONNECT_S)


def _subscription(path: Path, seen: set[str]) -> Iterator[WatchResult]:
    """Yield news; includes the removal of devices in `seen` that were removed between connections."""
    is_everything = True
    for said in subscribe(path, Watch(), WatchResult):
        names = {device.name for device in said.devices}
        removed = {*said.removed, *(seen - names if is_everything else ())}
        is_everything = False
        seen.update(names)
        seen -= removed
        yield said.model_copy(update={"removed": tuple(sorted(removed))})


class _Json:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, news: WatchResult) -> None:
        click.echo(news.model_dump_json())

    def say(self, text: str) -> None:
        click.echo(text, err=True)


class _Lines:
    """A line for each change of state, and for every tenth of a transfer."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[object, ...]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, news: WatchResult) -> None:
        for device in news.devices:
            step = (device.progress or 0) // _STEP_PERCENT if device.state == "transferring" else None
            told = (device.state, device.code, device.latest_version, device.paused, step)
            if self._told.get(device.name) != told:
                self._told[device.name] = told
                echo(line(device))
        for name in news.removed:
            self._told.pop(name, None)
            echo(f"{name}  removed from the configuration")

    def say(self, text: str) -> None:
        echo(text)


class _Bars:
    """Transfers as bars; a line above them for each that ended."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, refresh_per_second=5, transient=True)
        self._devices: dict[str, DeviceView] = {}

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.__exit__(None, None, None)

    def show(self, news: WatchResult) -> None:
        for name in news.removed:
            self._devices.pop(name, None)
        for device in news.devices:
            before = self._devices.get(device.name)
            if before is None or (before.state, before.code) != (device.state, device.code):
                self._print_change(device, is_new=before is None)
            self._devices[device.name] = device
        self._live.update(bars(self._devices.values(), self._console.height))

    def say(self, text: str) -> None:
        self._console.print(Text(text, style="yellow"))

    def _print_change(self, device: DeviceView, *, is_new: bool) -> None:
        if device.state in _MOVING or (is_new and device.state in ("idle", "succeeded", "unknown")):
            return
        self._console.print(Text(line(device)))


def bars(devices: Collection[DeviceView], height: int) -> Table:
    """Draw each transfer as a bar; no more than fit on the terminal."""
    table = Table.grid(padding=(0, 1))
    moving = [device for device in devices if device.state in _MOVING]
    room = max(1, height - _SPARE_LINES)
    for device in moving[:room]:
        table.add_row(*_bar(device))
    if len(moving) > room:
        table.add_row(Text(f"{len(moving) - room} more", style="dim"))
    if not moving:
        what = f"{plural(len(devices), 'device')}; no transfer is under way"
        table.add_row(Text(what, style="dim"))
    return table


def line(device: DeviceView) -> str:
    """One line for one device, as it is now."""
    parts = [f"{device.name}  {device.state}{' (paused)' if device.paused else ''}"]
    if device.state in _MOVING and device.latest_version:
        parts.append(f"{device.installed_version} -> {device.latest_version}")
    elif device.installed_version:
        parts.append(device.installed_version)
    if device.state == "transferring":
        parts.append(progress_text(device))
    if device.code and device.state not in _MOVING:
        parts.append(because(device.code, device.reason))
    return printable("  ".join(parts))


def _bar(device: DeviceView) -> list[Text | ProgressBar]:
    name = printable(device.name)
    if len(name) > _NAME_COLUMNS:
        name = f"{name[: _NAME_COLUMNS - 1]}…"
    progress = device.progress or 0
    if device.state == "transferring":
        left = duration(device.seconds_left)
        facts = [speed(device.bytes_per_s), f"{left} left" if left else ""]
    else:
        facts = [device.state, ""]
    resumes = f"resumed {device.resumes}x" if device.resumes else ""
    return [
        Text(name),
        ProgressBar(total=100, completed=progress, width=_BAR_COLUMNS),
        Text(f"{progress:3} %"),
        *(Text(fact, justify="right") for fact in facts),
        Text(resumes, style="yellow"),
    ]
