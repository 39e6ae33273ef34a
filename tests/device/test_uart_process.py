"""Virtual devices as processes on real ptys, used through the real link.

There are two with the same options: device/build/rcp-device with the receiver in C, and `gatewayctl simulate
uart` with the one in Python. What only one of them can do comes last.
"""

import asyncio
import contextlib
import dataclasses
import fcntl
import json
import os
import random
import re
import signal
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from lab.plain_gateway import PlainGateway

from gatewayd.link.uart import UartLink
from gatewayd.protocol.rcp import frames
from gatewayd.protocol.rcp.framing import StreamDeframer, encode_stream
from gatewayd.protocol.rcp.tlv_frames import Offer
from gatewayd.protocol.session import ImageState
from gatewayd.simulator.bootloader import Bootloader
from gatewayd.simulator.file_store import DirectoryFileStore
from gatewayd.simulator.profile import DeviceProfile

pytestmark = pytest.mark.slow

SOURCES = Path(__file__).parents[2] / "device"
PROGRAMS: dict[str, tuple[str | Path, ...]] = {
    "c": (SOURCES / "build" / "rcp-device",),
    "python": (sys.executable, "-c", "from gatewayd.cli.ctl import main; main()", "simulate", "uart"),
}
NAMES = {"c": "rcp-device:", "python": "gatewayctl:"}
OLD = random.Random(4).randbytes(9_001)
IMAGE = random.Random(5).randbytes(20_001)
LIMIT_S = 120


@dataclasses.dataclass
class Device:
    """A process of either program."""

    process: asyncio.subprocess.Process
    port: Path
    state: Path

    async def stop(self, number: int = signal.SIGTERM) -> int:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), LIMIT_S)

    async def log_line(self, text: str) -> str:
        assert self.process.stderr is not None
        said: list[str] = []
        async with asyncio.timeout(LIMIT_S):
            while text not in (line := (await self.process.stderr.readline()).decode()):
                said.append(line)
                assert line, f"it ended without saying {text!r}, but: {''.join(said)}"
        return line


Start = Callable[..., Awaitable[Device]]


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    made = subprocess.run(["make", "-C", SOURCES], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr


@pytest.fixture(params=PROGRAMS)
def who(request: pytest.FixtureRequest) -> str:
    return str(request.param)


only_c = pytest.mark.parametrize("who", ["c"], indirect=True)


@pytest.fixture
async def start(tmp_path: Path, who: str) -> AsyncIterator[Start]:
    running: list[Device] = []

    async def start_device(*options: str, listens: bool = True, app_id: str = "pump") -> Device:
        port, state = tmp_path / "port", tmp_path / "state"
        identity = ("--app-id", app_id, "--version", "1.0.0", "--slot-size", "0x20000")
        where = ("--port", str(port), "--state", str(state))
        command = (*PROGRAMS[who], *where, *identity, *options)
        process = await asyncio.create_subprocess_exec(*command, stderr=-1)
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
    device = await start("--slot-address", "0x8000", "--device-id", "0042")
    async with gateway(device) as plain:
        before = await plain.hello()
        assert (before.running_sha256, before.rx_ring, before.boot_time_s) == (None, 8192, 2)
        info = await plain.update(IMAGE, "1.0.1")
        assert (info.version, info.image_state, info.slot_address) == ("1.0.1", ImageState.ON_TRIAL, 0x8000)
        info = await plain.confirm(IMAGE)
    assert (info.image_state, info.device_id) == (ImageState.CONFIRMED, "0042")
    assert (device.state / "active.bin").read_bytes() == IMAGE
    assert json.loads((device.state / "device.json").read_text())["version"] == "1.0.1"


async def test_an_image_that_lies_in_the_directory_is_what_runs(start: Start, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "active.bin").write_bytes(IMAGE)
    device = await start()
    async with gateway(device) as plain:
        await plain.hello()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await plain.offer(IMAGE, "1.0.0")  # HAVE_IT, no ACCEPT


async def test_an_update_over_a_bad_line(start: Start) -> None:
    faults = ("--flip-rate", "2e-5", "--drop-rate", "1e-5", "--latency-ms", "1", "--seed", "7")
    device = await start("--rate", "200000", *faults)
    async with gateway(device) as plain:
        assert (await plain.update(IMAGE, "1.0.1")).version == "1.0.1"


async def test_flash_that_takes_time_and_is_laid_out_otherwise(start: Start) -> None:
    device = await start(
        "--erase-ms", "5", "--erase-block", "2048", "--write-unit", "256", "--window", "1500"
    )
    async with gateway(device) as plain:
        info = await plain.update(IMAGE, "1.0.1")
    assert (info.erase_block, info.write_unit, info.window) == (2048, 256, 1500)
    assert (device.state / "active.bin").read_bytes() == IMAGE


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
        await _send_until_power_cut(device, plain)
        assert (await plain.hello()).boot_id != before.boot_id
        assert 0 < (await plain.offer(IMAGE, "1.0.1")).offset < 0x2000
        await plain.update(IMAGE, "1.0.1")


async def _send_until_power_cut(device: Device, plain: PlainGateway) -> str:
    accept = await plain.offer(IMAGE, "1.0.1")
    sending = asyncio.create_task(plain.send_image(IMAGE, accept))
    said = await device.log_line("power cut")
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    return said


async def _update_with_a_restart(start: Start, *options: str) -> Device:
    """Return a device on trial, killed and started again."""
    device = await start(*options)
    async with gateway(device) as plain:
        assert (await plain.update(IMAGE, "1.0.1")).image_state is ImageState.ON_TRIAL
    await device.stop(signal.SIGKILL)
    return device


async def test_a_restart_does_not_end_the_trial(start: Start) -> None:
    device = await _update_with_a_restart(start)
    ends = json.loads((device.state / "device.json").read_text())["trial"]["ends"]
    device = await start()
    async with gateway(device) as plain:
        assert (await plain.hello()).image_state is ImageState.ON_TRIAL
        assert json.loads((device.state / "device.json").read_text())["trial"]["ends"] == ends
        assert (await plain.confirm(IMAGE)).image_state is ImageState.CONFIRMED


async def test_dead_past_the_trial_it_comes_back_with_the_old_image(start: Start) -> None:
    device = await _update_with_a_restart(start)
    record = device.state / "device.json"
    told = json.loads(record.read_text())
    told["trial"]["ends"] -= 600  # as if so much time had gone by
    record.write_text(json.dumps(told))
    device = await start()
    assert not (device.state / "active.bin").exists()
    async with gateway(device) as plain:
        info = await plain.hello()
    assert (info.version, info.image_state, info.tried_count) == ("1.0.0", ImageState.REVERTED, 1)


async def test_an_image_that_never_answers_is_given_up(start: Start, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "active.bin").write_bytes(OLD)
    device = await start("--trial-s", "1", "--break-after-activate")
    async with gateway(device) as plain:
        info = await plain.update(IMAGE, "1.0.1")  # HELLO is said until the old one answers
        assert (info.version, info.image_state) == ("1.0.0", ImageState.REVERTED)
    await device.log_line("gives 1.0.1 up")
    assert (device.state / "active.bin").read_bytes() == OLD


async def test_without_trials_what_is_activated_stays(start: Start) -> None:
    device = await start("--no-trial")
    async with gateway(device) as plain:
        info = await plain.update(IMAGE, "1.0.1")
    assert (info.version, info.image_state, info.can_revert) == ("1.0.1", ImageState.CONFIRMED, False)


async def test_it_is_what_it_was_whatever_the_options_say_later(start: Start) -> None:
    await (await start("--hardware-id", 'rév "b"')).stop()
    device = await start("--hardware-id", "rev-c", app_id="fan", listens=False)
    assert "'pump'" in await device.log_line("app_id")
    await device.log_line("listens")
    async with gateway(device) as plain:
        info = await plain.hello()
    assert (info.app_id, info.hardware_id) == ("pump", 'rév "b"')


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


async def test_a_link_that_another_device_took_over_is_left_alone(start: Start) -> None:
    device = await start()
    target = str(device.port.readlink())
    device.port.unlink()
    device.port.symlink_to("/" + "x" * (len(target) - 1))
    assert await device.stop() == 0
    assert device.port.is_symlink()


async def test_a_file_in_the_links_place_is_not_overwritten(start: Start, tmp_path: Path) -> None:
    (tmp_path / "port").write_text("mine")
    device = await start(listens=False)
    await device.log_line("is no symbolic link")
    assert await device.process.wait() == 1
    assert (tmp_path / "port").read_text() == "mine"


async def test_one_directory_is_one_device(start: Start, who: str) -> None:
    target = (first := await start()).port.readlink()
    second = await start(listens=False)
    assert "another process" in await second.log_line(NAMES[who])
    assert await second.process.wait() == 1
    assert first.port.readlink() == target


async def test_the_lock_ends_with_the_process_even_while_its_memory_is_read(start: Start) -> None:
    """While `ps` looks, a mapping lives on and holds its file: the locked one is another."""
    assert _modes_of_locked_files((await start()).process.pid) == [os.O_RDONLY]


def _modes_of_locked_files(pid: int) -> list[int]:
    known = [info.read_text() for info in Path(f"/proc/{pid}/fdinfo").iterdir()]
    flags = [re.findall(r"(?m)^flags:\t(\d+)$", text) for text in known if "FLOCK" in text]
    return [int(found, 8) & os.O_ACCMODE for (found,) in flags]


@pytest.mark.parametrize(
    "options",
    [
        ("--slot-size", "-4096"),
        ("--slot-size", "ten"),
        ("--version", "1.0.01"),
        ("--version", "1.0"),
        ("--flip-rate", "1.1"),
        ("--flip-rate", "2"),
        ("--drop-rate", "nan"),
        ("--write-unit", "3"),
        ("--max-frame", "137"),
        ("--app-id", "a\nb"),
        ("--vers", "1.0.0"),
        ("--nonsense", "1"),
        ("--quiet=1",),
        ("stray",),
        ("--seed",),
    ],
)
async def test_wrong_options_exit_with_2(start: Start, options: tuple[str, ...]) -> None:
    device = await start(*options, listens=False)
    assert await device.process.wait() == 2
    assert not device.state.exists()


async def test_at_another_speed_it_understands_nothing_and_is_not_understood(start: Start) -> None:
    device = await start("--baud", "115200")
    async with gateway(device, baud=9600) as plain:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await plain.offer(IMAGE, "1.0.1")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await plain.hello()
        await plain.link.set_baud(115200)
        assert (await plain.hello()).app_id == "pump"
    await device.stop()
    assert device.process.stderr is not None
    assert b"offer of" not in await device.process.stderr.read()


async def test_an_answer_that_comes_at_another_speed_is_noise(start: Start) -> None:
    device = await start("--latency-ms", "400")
    async with gateway(device) as plain:
        offer = Offer(1, bytes(32), 1000, "1.0.1")
        await plain.link.send(encode_stream(offer.to_bytes()))
        await device.log_line("offer of")  # understood; ACCEPT is on its way
        await plain.link.set_baud(9600)
        async with asyncio.timeout(LIMIT_S):
            noise = await plain.link.receive()
    assert not any(isinstance(found, bytes) for found in StreamDeframer(512).feed(noise))


async def test_a_raised_speed_is_used_by_both(start: Start, who: str) -> None:
    device = await start("--rate", "50000")
    async with gateway(device) as plain:
        await plain.ask(frames.SetBaud(0, 921600), frames.BaudOk)
        await plain.link.set_baud(921600)
        assert (await plain.hello()).app_id == "pump"
    if who == "c":
        await device.log_line("runs at 921600 baud")


# The receiver in C alone


@only_c
@pytest.mark.parametrize("seed", ["1", "3", "4"])
async def test_power_cut_within_a_flash_write(start: Start, seed: str) -> None:
    """The frame that ends the 8th KiB makes 128 writes and a journal record; the cut tears one of them."""
    device = await start("--power-cut-after", "8350", "--seed", seed)
    async with gateway(device) as plain:
        await plain.hello()
        assert "within a flash operation" in await _send_until_power_cut(device, plain)
        await plain.update(IMAGE, "1.0.1")
    assert (device.state / "active.bin").read_bytes() == IMAGE


@only_c
async def test_the_python_device_takes_the_directory_over(start: Start) -> None:
    device = await start("--slot-address", "0x8000")
    async with gateway(device) as plain:
        await plain.update(IMAGE, "1.0.1")
    await device.stop()
    bootloader = Bootloader(DirectoryFileStore(device.state), DeviceProfile(app_id="fan", version="9.9.9"))
    assert (bootloader.image, bootloader.version) == (IMAGE, "1.0.1")
    assert (bootloader.profile.app_id, bootloader.profile.slot_address) == ("pump", 0x8000)
    assert bootloader.profile.slot_size == 0x20000
    assert bootloader.trial_ends is not None


@only_c
async def test_it_takes_a_directory_of_the_python_device_over(start: Start, tmp_path: Path) -> None:
    profile = DeviceProfile(app_id="pümp", version="1.0.0", slot_size=0x20000, erase_block=8192)
    python = Bootloader(DirectoryFileStore(tmp_path / "state"), profile)
    python.set_flag(IMAGE, "1.0.1", 600)
    device = await start()
    async with gateway(device) as plain:
        info = await plain.hello()
        assert (info.app_id, info.version, info.erase_block) == ("pümp", "1.0.1", 8192)
        assert info.image_state is ImageState.ON_TRIAL
        assert (await plain.confirm(IMAGE)).image_state is ImageState.CONFIRMED


@only_c
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no JSON object"),
        ("{", "a key is expected"),
        ('{"version": "1.0.0"', "a closing brace is expected"),
        ('{"version": "1.0.0"} {}', "something behind"),
        ('{"version": "1.0"}', "no version"),
        ('{"version": "1.0.0", "erase_block": 1000}', "erase_block"),
        ('{"version": "1.0.0", "slot_size": 4294967296}', "slot_size"),
        ('{"version": "1.0.0", "trial": {"ends": "soon"}}', "trial.ends"),
        ('{"version": "1.0.0", "trial": {"ends": {}}}', "plain values"),
        ('{"version": "1.0.0", "write_unit": -8}', "write_unit"),
        ('{"version": "1.0.0", "app_id": "' + "a" * 1000 + '"}', "plain values"),
        ('{"version": "1.0.0", "app_id": "\\ud800"}', "plain values"),
        ('{"version": "1.0.0", "' + "k" * 1000 + '": 1}', "a key is expected"),
    ],
)
async def test_a_spoilt_device_json_is_named(start: Start, tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "device.json").write_text(content)
    device = await start(listens=False)
    assert said in await device.log_line("device.json cannot be used")
    assert await device.process.wait() == 1
    assert (tmp_path / "state" / "device.json").read_text() == content


@only_c
async def test_exclusive_use_is_over_when_the_gateway_was_killed(start: Start) -> None:
    """TIOCEXCL outlives a killed gateway here, for the device keeps the pty open; a living one locks it."""
    device = await start()
    killed = os.open(device.port, os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(killed, termios.TIOCEXCL)
    os.close(killed)
    await device.log_line("others may open it again")
    again = os.open(device.port, os.O_RDWR | os.O_NOCTTY)
    assert fcntl.ioctl(again, 0x80045440, bytes(4)) == bytes(4)  # TIOCGEXCL
    os.close(again)
