"""`gatewayctl demo`: an update from MQTT message to running device, over a line that breaks.

Only the script is the demo's own: broker, daemon, virtual device, keygen, pack and publish are the real ones.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import sys
import tempfile
import time
import webbrowser
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt
import click
import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from gatewayd.cli.demo_broker import demo_broker
from gatewayd.errors import DeviceError, HostError
from gatewayd.mqtt.topics import GatewayTopics

GATEWAY, DEVICE, APP = "demo", "pump-1", "pump"
OLD, NEW = "4.3.1", "4.3.2"
SLOT = "0x2000"
# A line of 230400 baud: some 200 KiB take ten seconds, slow enough to watch.
RATE_BYTES_PER_S = 23_040
CUT_AT_PERCENT = 45
CUT_FOR_S = 2.0
# The documentation promises a minute; a demo that takes twice as long is stuck.
LIMIT_S = 120.0
# How often to check that the daemon is still running.
DAEMON_POLL_S = 1.0
PAGE_POLL_S = 0.1


@dataclass
class Story:
    """The state of the demo, and what its summary needs."""

    folder: Path
    image: bytes
    status: dict[str, Any] = field(default_factory=dict)
    cut_at: int = 0
    started: float = field(default_factory=time.monotonic)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    daemon: asyncio.subprocess.Process | None = None
    page: str | None = None


@click.command()
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path), help="Where to work. Default: a new folder."
)
@click.option(
    "--size",
    default=200_000,
    show_default=True,
    type=click.IntRange(100_000, 2_000_000),
    help="Firmware bytes.",
)
@click.option("--web", is_flag=True, help="Show it on a page, too, which stays until Ctrl-C.")
def command(folder: Path | None, size: int, *, web: bool) -> None:
    """Watch an update survive a line that breaks half-way.

    Starts an MQTT broker, the daemon and a virtual device on this machine, publishes signed and encrypted
    firmware, cuts the line, and ends when the device itself reports the new version. Its folder is kept
    for you to inspect.
    """
    folder = folder or Path(tempfile.mkdtemp(prefix="gatewayd-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "config.yaml").exists():
        raise HostError(f"{folder} holds a demo already", code="file_exists", hint="name another folder")
    image = random.Random(size).randbytes(size)  # noqa: S311 - not a secret
    story = Story(folder.absolute(), image)
    console = Console(highlight=False)
    try:
        asyncio.run(_within_limit(story, console, web=web))
    except TimeoutError:
        raise HostError(
            f"the demo did not end within {LIMIT_S:.0f} s; last status: {json.dumps(story.status)}",
            code="demo_stuck",
            hint=f"look into {story.folder}/gatewayd.log",
        ) from None
    except KeyboardInterrupt:
        if story.page is None or story.status.get("state") != "succeeded":
            raise


async def _within_limit(story: Story, console: Console, *, web: bool) -> None:
    async with contextlib.AsyncExitStack() as processes:
        async with asyncio.timeout(LIMIT_S):
            await _play(story, console, processes, web=web)
        if story.page is not None:
            console.print(f"\nThe page stays at {story.page} until Ctrl-C.")
            await asyncio.Event().wait()


async def _play(story: Story, console: Console, processes: contextlib.AsyncExitStack, *, web: bool) -> None:
    folder = story.folder
    console.print(f"gatewayd demo in [bold]{folder}[/]\n")
    port, broker = await processes.enter_async_context(demo_broker())
    console.print(f"[green]broker[/]    {broker}", soft_wrap=True)
    await _gatewayctl(story, "keygen", "-o", "ota.key")
    console.print("[green]keygen[/]    ota.key, decrypt.key.bin, verify.key.bin")
    (folder / "firmware.bin").write_bytes(story.image)
    await _gatewayctl(story, "pack", "--key", "ota.key", "-o", "firmware.ota", f"{SLOT}=firmware.bin")
    console.print(f"[green]pack[/]      firmware.ota, {len(story.image)} bytes, signed and encrypted")
    _write_config(story, port)
    device = await processes.enter_async_context(_device(story))
    daemon = _process(story, "gatewayd.log", "gatewayd.cli.daemon", "--config", "config.yaml")
    story.daemon = await processes.enter_async_context(daemon)
    console.print(f"[green]gatewayd[/]  runs; {DEVICE} runs {OLD}, at {RATE_BYTES_PER_S} bytes/s")
    watching = asyncio.create_task(_watch(story, port))
    processes.push_async_callback(_cancelled, watching)
    await _until(story, lambda status: status.get("installed_version") == OLD)
    if web:
        await _open_page(story, processes)
        console.print(f"[green]page[/]      {story.page}")
    release = ("--config", "config.yaml", "--app", APP, "--version", NEW, "firmware.ota")
    await _gatewayctl(story, "publish", *release)
    console.print(f"[green]publish[/]   {NEW}, retained\n")
    with _bar(console) as show:
        await _until(story, lambda status: (status.get("progress") or 0) >= CUT_AT_PERCENT, show)
        await _cut(story, device)
        story.cut_at = story.status["progress"]
        console.print(f"[red]The line breaks, and the device loses power, at {story.cut_at} %.[/]")
        await asyncio.sleep(CUT_FOR_S)
        await processes.enter_async_context(_device(story))
        console.print("[green]The device is back.[/]")
        await _until(story, lambda status: status.get("state") in ("succeeded", "failed"), show)
    _conclude(story, console)


def _conclude(story: Story, console: Console) -> None:
    status = story.status
    if status["state"] != "succeeded" or status["installed_version"] != NEW:
        reason = f"the update ended as {status['state']}: {status['reason']}"
        raise DeviceError(reason, code=str(status["code"]))
    if (story.folder / "device" / "active.bin").read_bytes() != story.image:
        raise DeviceError("the device runs other bytes than were published", code="demo_wrong_image")
    log = _log_entries(story.folder / "gatewayd.log")
    offsets = [entry["offset"] for entry in log if entry.get("event") == "transfer"]
    console.print(
        f"\n[bold green]{DEVICE} reports {NEW}[/], confirmed, and runs what was published, byte for byte."
        f"\nCut at {story.cut_at} %, resumed at byte {offsets[-1]} of {len(story.image)}"
        f"; {time.monotonic() - story.started:.0f} s in all."
        f"\nEverything is left in {story.folder}: config.yaml, gatewayd.log, device.log, device/.",
        soft_wrap=True,
    )


def _log_entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]


# -- what is watched


async def _watch(story: Story, port: int) -> None:
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe(GatewayTopics(f"gatewayd/{GATEWAY}").device(DEVICE), qos=1)
        async for message in client.messages:
            if isinstance(message.payload, bytes) and message.payload:
                story.status = json.loads(message.payload)
                story.news.set()


async def _until(story: Story, reached: Any, show: Any = None) -> None:
    while not reached(story.status):
        if story.daemon and story.daemon.returncode is not None:
            hint = f"look into {story.folder}/gatewayd.log"
            raise HostError("gatewayd ended unexpectedly", code="demo_failed", hint=hint)
        try:
            async with asyncio.timeout(DAEMON_POLL_S):
                await story.news.wait()
        except TimeoutError:
            continue
        story.news.clear()
        if show:
            show(story.status)
        if story.status.get("state") == "failed":
            return


@contextlib.contextmanager
def _bar(console: Console) -> Any:
    """Yield a function that shows a status: as a live bar on a terminal, otherwise as a line."""
    if not console.is_terminal:
        yield _Lines(console).show
        return
    columns = (TextColumn(DEVICE), BarColumn(), TextColumn("{task.percentage:>3.0f} %  {task.description}"))
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=100)
        yield lambda status: _update(progress, task, status)


class _Lines:
    """Prints each status as a line, and skips repetitions."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ""

    def show(self, status: dict[str, Any]) -> None:
        if _line(status) != self._last:
            self._last = _line(status)
            self._console.print(self._last, soft_wrap=True)


def _update(progress: Progress, task: TaskID, status: dict[str, Any]) -> None:
    code = f" ({status['code']})" if status.get("code") else ""
    progress.update(task, completed=status.get("progress") or 0, description=f"{status.get('state')}{code}")


def _line(status: dict[str, Any]) -> str:
    reason = f": {status['reason']}" if status.get("reason") else ""
    percent = f" {status['progress']} %" if status.get("progress") is not None else ""
    return f"{status.get('state')}{percent}{reason}"


# -- what runs


def _write_config(story: Story, port: int) -> None:
    config = {
        "gateway": {"id": GATEWAY, "state_dir": "state", "control_socket": "control.sock"},
        "mqtt": {"host": "127.0.0.1", "port": port},
        "keys": {APP: {"decrypt_key_file": "decrypt.key.bin", "verify_key_file": "verify.key.bin"}},
        "devices": [
            {
                "name": DEVICE,
                "app_id": APP,
                "hardware_id": "pump-rev-b",
                "version": OLD,
                "payload": "advanced",
                "keys": APP,
                "link": {"uart": str(story.folder / "port"), "baud": 230_400},
            }
        ],
    }
    (story.folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def _device(story: Story) -> contextlib.AbstractAsyncContextManager[asyncio.subprocess.Process]:
    flags = {
        "--port": "port",
        "--state": "device",
        "--app-id": APP,
        "--hardware-id": "pump-rev-b",
        "--version": OLD,
        "--slot-address": SLOT,
        "--baud": "230400",
        "--rate": str(RATE_BYTES_PER_S),
        "--latency-ms": "5",
    }
    words = [word for flag in flags.items() for word in flag]
    return _process(story, "device.log", "gatewayd.cli.ctl", "simulate", "uart", *words)


async def _open_page(story: Story, processes: contextlib.AsyncExitStack) -> None:
    """Serve the page on a free port; open it where there is a screen."""
    words = ("--socket", "control.sock", "--listen", "127.0.0.1:0")
    process = await processes.enter_async_context(_process(story, "web.log", "gatewayd.cli.web", *words))
    log = story.folder / "web.log"
    while (found := re.search(r"http://\S+", log.read_text())) is None:
        if process.returncode is not None:
            raise HostError(f"the page ended: {log.read_text().strip()}", code="demo_failed")
        await asyncio.sleep(PAGE_POLL_S)
    story.page = found[0]
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        await asyncio.to_thread(webbrowser.open, story.page)


@contextlib.asynccontextmanager
async def _process(
    story: Story, log: str, module: str, *words: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    with (story.folder / log).open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, *words, cwd=story.folder, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _cut(story: Story, device: asyncio.subprocess.Process) -> None:
    """Kill the device, like a power cut, and remove its port, like a pulled cable."""
    device.kill()
    await device.wait()
    (story.folder / "port").unlink()


async def _gatewayctl(story: Story, *words: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gatewayd.cli.ctl", *words, cwd=story.folder, stdout=-1, stderr=-2
    )
    output, _ = await process.communicate()
    if process.returncode:
        said = output.decode(errors="replace").strip()
        raise HostError(f"gatewayctl {words[0]} failed: {said}", code="demo_failed")


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
