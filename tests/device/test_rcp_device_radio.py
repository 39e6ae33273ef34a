"""device/build/rcp-device --datagram, the C receiver behind packets, led by the real gateway and pump."""

import asyncio
import contextlib
import random
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from lab.operations import bring, identify
from lab.packet_link import PacketLink
from lab.rcp.joined import make_image

from gatewayd.delivery.pump import Pump
from gatewayd.errors import LinkError, LinkLost
from gatewayd.protocol.rcp.gateway import RcpGateway
from gatewayd.protocol.session import (
    Activated,
    Confirmed,
    Event,
    ImageState,
    TransferStarted,
)

SOURCES = Path(__file__).parents[2] / "device"
PROGRAM = SOURCES / "build" / "rcp-device"
IMAGE = make_image(30_001)
LIMIT_S = 120
MTUS = [23, 185, 247, 517]
Start = Callable[..., Awaitable["Device"]]


@dataclass
class Device:
    """An rcp-device process and its socket."""

    process: asyncio.subprocess.Process
    port: Path
    state: Path

    @contextlib.asynccontextmanager
    async def conversation(self, mtu: int, notices: list[Event]) -> AsyncIterator[tuple[Pump, PacketLink]]:
        link = PacketLink(self.port, mtu)
        session = RcpGateway("lab", datagram=True, random=random.Random(1))
        clock = asyncio.get_running_loop().time
        async with (
            asyncio.timeout(LIMIT_S),
            Pump(link, session, clock=clock, on_notice=notices.append) as talk,
        ):
            yield talk, link


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    made = subprocess.run(["make", "-C", SOURCES], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    running: list[asyncio.subprocess.Process] = []

    async def start_device(*options: str) -> Device:
        port, state = tmp_path / "port", tmp_path / "state"
        identity = ("--app-id", "tag", "--version", "1.0.0", "--slot-size=0x20000", "--boot-ms=50")
        where = ("--port", str(port), "--state", str(state))
        process = await asyncio.create_subprocess_exec(PROGRAM, *where, *identity, *options, stderr=-1)
        running.append(process)
        assert process.stderr is not None
        while b"listens" not in (line := await asyncio.wait_for(process.stderr.readline(), LIMIT_S)):
            assert line, "it ended"
        return Device(process, port, state)

    yield start_device
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.communicate()


async def activate_and_confirm(device: Device, talk: Pump, mtu: int) -> None:
    talk.session.activate(600, talk.now)
    assert await talk.outcome() == Activated(acknowledged=True)
    async with device.conversation(mtu, []) as (again, _):  # the restart has ended the connection
        assert (await identify(again)).image_state is ImageState.ON_TRIAL
        again.session.confirm(IMAGE, again.now)
        assert await again.outcome() == Confirmed()
    assert (device.state / "active.bin").read_bytes() == IMAGE.content


@pytest.mark.parametrize("mtu", MTUS)
async def test_an_update(start: Start, mtu: int) -> None:
    device = await start(f"--datagram={mtu}")
    async with device.conversation(mtu, []) as (talk, link):
        await identify(talk)
        await bring(talk, IMAGE)
        assert len(link.confirmed) == 2  # HELLO, OFFER
        # Short DATA: three bytes of each packet are not the image's.
        packets = -(-len(IMAGE.content) // (min(mtu - 3, 512) - 3))
        assert link.sent <= len(IMAGE.content) + 3 * packets + 400
        await activate_and_confirm(device, talk, mtu)


async def test_after_a_disconnect_with_other_packets_it_resumes(start: Start) -> None:
    device = await start("--datagram=247", "--rate=40000")
    notices: list[Event] = []
    async with device.conversation(247, notices) as (talk, link):
        await identify(talk)
        talk.session.transfer(IMAGE, talk.now)
        transfer = asyncio.create_task(talk.outcome())
        await link.sent_at_least(len(IMAGE.content) // 2)
        transfer.cancel()
        await asyncio.wait([transfer])
        before = talk.session.traffic.image_bytes_sent
    async with device.conversation(23, notices) as (talk, _):
        await identify(talk)
        await bring(talk, IMAGE)
        again = before + talk.session.traffic.image_bytes_sent - len(IMAGE.content)
        assert again <= 4096 + 8  # the window, and a write unit
        await activate_and_confirm(device, talk, 23)
    first, second = [notice.offset for notice in notices if isinstance(notice, TransferStarted)]
    assert (first, second > 0) == (0, True)


async def test_a_power_cut_ends_the_connection_and_the_transfer_resumes(start: Start) -> None:
    device = await start("--datagram=185", "--power-cut-after=15000", "--seed=1")
    notices: list[Event] = []
    async with device.conversation(185, notices) as (talk, _):
        await identify(talk)
        with pytest.raises(LinkLost):
            await bring(talk, IMAGE)
    async with device.conversation(185, notices) as (talk, _):
        await identify(talk)
        await bring(talk, IMAGE)
        await activate_and_confirm(device, talk, 185)
    assert [notice.offset > 0 for notice in notices if isinstance(notice, TransferStarted)] == [False, True]


async def test_a_packet_longer_than_the_mtu_says_is_dropped(start: Start) -> None:
    device = await start("--datagram=23")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.connect(str(device.port))
        peer.send(bytes(21))
        assert device.process.stderr is not None
        line = b""
        async with asyncio.timeout(LIMIT_S):
            while b"drops" not in line:
                line = await device.process.stderr.readline()
        assert b"drops a packet of 21 bytes: 20 fit" in line


async def test_the_socket_goes_when_it_stops(start: Start) -> None:
    device = await start("--datagram=247")
    device.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(device.process.wait(), LIMIT_S) == 0
    assert not device.port.exists()
    with pytest.raises(LinkError):
        await PacketLink(device.port, 247).open()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--datagram=22",), "--datagram: '22' is no integer within 23 to 517"),
        (("--datagram=247", "--flip-rate=0.1"), "do not go with --datagram"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: tuple[str, ...], says: str) -> None:
    where = ("--port", tmp_path / "port", "--state", tmp_path / "state", "--app-id=tag", "--version=1.0.0")
    made = subprocess.run(
        [PROGRAM, *where, *options], capture_output=True, text=True, check=False, timeout=200
    )
    assert (made.returncode, says in made.stderr) == (2, True), made.stderr


def test_a_file_in_the_place_of_the_socket_stays(tmp_path: Path) -> None:
    port = tmp_path / "port"
    port.write_text("mine")
    where = ("--port", port, "--state", tmp_path / "state", "--app-id=tag", "--version=1.0.0")
    made = subprocess.run(
        [PROGRAM, *where, "--datagram=247"], capture_output=True, text=True, check=False, timeout=200
    )
    assert made.returncode != 0
    assert "is no socket" in made.stderr
    assert port.read_text() == "mine"
