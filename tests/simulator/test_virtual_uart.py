"""The virtual device as a process on a real pty, used through the real link."""

import asyncio
import contextlib
import dataclasses
import fcntl
import json
import os
import random
import signal
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from lab.plain_gateway import PlainGateway

from gatewayd.errors import HostError
from gatewayd.link.uart import UartLink
from gatewayd.protocol.rcp import frames
from gatewayd.protocol.session import ImageState
from gatewayd.simulator.terminal import Terminal

IMAGE = random.Random(5).randbytes(20_000)
LIMIT_S = 20


@dataclasses.dataclass
class Device:
    """A `gatewayctl simulate uart` process."""

    process: asyncio.subprocess.Process
    port: Path
    state: Path

    async def stop(self, number: int = signal.SIGTERM) -> int:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), LIMIT_S)

    async def log_line(self, text: str) -> str:
        """Wait until it logs a line with this text."""
        assert self.process.stderr is not None
        async with asyncio.timeout(LIMIT_S):
            while text not in (line := (await self.process.stderr.readline()).decode()):
                assert line, f"it ended without saying {text!r}"
        return line


Start = Callable[..., Awaitable[Device]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    running: list[Device] = []

    async def start_device(*options: str, listens: bool = True, app_id: str = "pump") -> Device:
        port, state = tmp_path / "port", tmp_path / "state"
        program = "from gatewayd.cli.ctl import main; main()"
        identity = ("--app-id", app_id, "--version", "1.0.0", "--slot-size", "0x20000")
        where = ("--port", str(port), "--state", str(state))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, "simulate", "uart", *where, *identity, *options, stderr=-1
        )
        device = Device(process, port, state)
        running.append(device)
        if listens:
            await device.log_line("listens")
        return device

    yield start_device
    for device in running:
        await device.stop(signal.SIGKILL)
        await device.process.communicate()


@contextlib.asynccontextmanager
async def gateway(device: Device, baud: int = 115200) -> AsyncIterator[PlainGateway]:
    link = UartLink(str(device.port), baud=baud)
    await link.open()
    try:
        yield PlainGateway(link)
    finally:
        await link.close()


async def test_an_update_and_what_it_leaves_in_the_directory(start: Start) -> None:
    device = await start("--slot-address", "0x8000")
    async with gateway(device) as plain:
        info = await plain.update(IMAGE, "1.0.1")
        assert (info.version, info.image_state, info.slot_address) == ("1.0.1", ImageState.ON_TRIAL, 0x8000)
        info = await plain.confirm(IMAGE)
    assert info.image_state is ImageState.CONFIRMED
    assert (device.state / "active.bin").read_bytes() == IMAGE
    assert json.loads((device.state / "device.json").read_text())["version"] == "1.0.1"


async def test_an_update_over_a_bad_line(start: Start) -> None:
    faults = ("--flip-rate", "2e-5", "--drop-rate", "1e-5", "--latency-ms", "1", "--seed", "7")
    device = await start("--rate", "200000", *faults)
    async with gateway(device) as plain:
        assert (await plain.update(IMAGE, "1.0.1")).version == "1.0.1"


async def test_killed_in_mid_transfer_it_resumes(start: Start) -> None:
    device = await start()
    async with gateway(device) as plain:
        before = await plain.hello()
        await plain.send_image(IMAGE, await plain.offer(IMAGE, "1.0.1"), stop_after=13_000)
    assert await device.stop(signal.SIGKILL) == -signal.SIGKILL
    device = await start()
    async with gateway(device) as plain:
        assert (await plain.hello()).boot_id != before.boot_id
        accept = await plain.offer(IMAGE, "1.0.1")
        assert accept.offset in (12288, 16384)  # a window was under way
        await plain.update(IMAGE, "1.0.1")
    assert (device.state / "active.bin").read_bytes() == IMAGE


async def test_power_cut_after_so_many_bytes_happens_once(start: Start) -> None:
    device = await start("--power-cut-after", "0x2000")
    async with gateway(device) as plain:
        before = await plain.hello()
        accept = await plain.offer(IMAGE, "1.0.1")
        sending = asyncio.create_task(plain.send_image(IMAGE, accept))
        await device.log_line("power cut")
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        assert (await plain.hello()).boot_id != before.boot_id
        assert 0 < (await plain.offer(IMAGE, "1.0.1")).offset < 0x2000
        await plain.update(IMAGE, "1.0.1")


async def test_dead_past_the_trial_it_comes_back_with_the_old_image(start: Start) -> None:
    device = await start()
    async with gateway(device) as plain:
        assert (await plain.update(IMAGE, "1.0.1")).image_state is ImageState.ON_TRIAL
    await device.stop(signal.SIGKILL)
    record = device.state / "device.json"
    told = json.loads(record.read_text())
    told["trial"]["ends"] -= 600  # as if so much time had gone by
    record.write_text(json.dumps(told))
    device = await start()
    assert not (device.state / "active.bin").exists()
    async with gateway(device) as plain:
        info = await plain.hello()
    assert (info.version, info.image_state, info.tried_count) == ("1.0.0", ImageState.REVERTED, 1)


async def test_it_is_what_it_was_whatever_the_options_say_later(start: Start) -> None:
    await (await start("--hardware-id", "rev-b")).stop()
    device = await start("--hardware-id", "rev-c", app_id="fan", listens=False)
    assert "'pump'" in await device.log_line("app_id")
    await device.log_line("listens")
    async with gateway(device) as plain:
        info = await plain.hello()
    assert (info.app_id, info.hardware_id) == ("pump", "rev-b")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_with_0_and_takes_its_link_away(start: Start, number: int) -> None:
    device = await start()
    assert device.port.is_symlink()
    assert await device.stop(number) == 0
    assert not device.port.is_symlink()


async def test_the_link_of_a_killed_one_is_replaced(start: Start) -> None:
    first = await start()
    await first.stop(signal.SIGKILL)
    assert first.port.is_symlink()
    second = await start()
    async with gateway(second) as plain:
        assert (await plain.hello()).app_id == "pump"


async def test_one_directory_is_one_device(start: Start) -> None:
    await start()
    second = await start(listens=False)
    assert "another process" in await second.log_line("gatewayctl:")
    assert await second.process.wait() == 1


@pytest.mark.parametrize(
    "options",
    [
        ("--slot-size", "ten"),
        ("--version", "1.0"),
        ("--flip-rate", "2"),
        ("--write-unit", "3"),
        ("--nonsense", "1"),
    ],
)
async def test_wrong_options_exit_with_2(start: Start, options: tuple[str, ...]) -> None:
    device = await start(*options, listens=False)
    assert await device.process.wait() == 2


async def test_at_another_speed_it_understands_nothing_and_is_not_understood(start: Start) -> None:
    device = await start("--baud", "115200")
    async with gateway(device, baud=9600) as plain:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await plain.hello()
        await plain.link.set_baud(115200)
        assert (await plain.hello()).app_id == "pump"


async def test_a_raised_speed_is_used_by_both(start: Start) -> None:
    device = await start()
    async with gateway(device) as plain:
        await plain.ask(frames.SetBaud(0, 921600), frames.BaudOk)
        await plain.link.set_baud(921600)
        assert (await plain.hello()).app_id == "pump"


def test_a_file_in_the_links_place_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "port"
    path.write_text("mine")
    with pytest.raises(HostError) as refused:
        Terminal(path, 115200)
    assert refused.value.code == "port_exists"
    assert path.read_text() == "mine"


def test_exclusive_use_is_over_when_the_gateway_was_killed(tmp_path: Path) -> None:
    """TIOCEXCL outlives a killed gateway here, for we keep the slave open; a living one has the flock."""
    terminal = Terminal(tmp_path / "port", 115200)
    gateway_fd = os.open(tmp_path / "port", os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(gateway_fd, fcntl.LOCK_EX)
    fcntl.ioctl(gateway_fd, termios.TIOCEXCL)
    terminal.free_after_crash()
    assert _is_exclusive(gateway_fd)
    os.close(gateway_fd)
    terminal.free_after_crash()
    again = os.open(tmp_path / "port", os.O_RDWR | os.O_NOCTTY)
    assert not _is_exclusive(again)
    os.close(again)
    terminal.close()


def _is_exclusive(fd: int) -> bool:
    return fcntl.ioctl(fd, 0x80045440, bytes(4)) != bytes(4)
