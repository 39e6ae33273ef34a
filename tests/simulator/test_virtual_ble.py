"""`gatewayctl simulate ble` as a process: its controller is a virtual one in this process's air."""

import asyncio
import contextlib
import json
import random
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import pytest
from bumble.device import Device
from bumble.hci import Address
from bumble.transport import open_transport
from lab.bumble_radio import Air, BumbleBackend
from lab.operations import bring, identify
from lab.rcp.joined import make_image
from lab.smp.memory import as_image, firmware

from gatewayd.cli.ctl import cli
from gatewayd.delivery.pump import Pump
from gatewayd.errors import HostError, LinkLost
from gatewayd.link.ble import BleLink
from gatewayd.link.radio import Radio
from gatewayd.link.radios import only
from gatewayd.link.target import Target
from gatewayd.protocol.rcp.gateway import RcpGateway
from gatewayd.protocol.rcp.kind import GATT
from gatewayd.protocol.session import (
    Activated,
    Armed,
    Confirmed,
    Event,
    ImageState,
    TransferSession,
    TransferStarted,
)
from gatewayd.protocol.smp.gateway import SmpGateway
from gatewayd.protocol.smp.kind import GATT as SMP_GATT

pytestmark = pytest.mark.slow

PROGRAM = (sys.executable, "-c", "from gatewayd.cli.ctl import main; main()", "simulate", "ble")
ADDRESS = "C0:FF:EE:00:00:07"
IMAGE = make_image(30_001)
LIMIT_S = 120


@dataclass
class Lab:
    """An air, an adapter in it, and a folder for devices."""

    air: Air
    adapter: BumbleBackend
    radio: Radio
    folder: Path
    running: list[asyncio.subprocess.Process] = field(default_factory=list)
    notices: list[Event] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @contextlib.asynccontextmanager
    async def device(self, *options: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run a device on a controller of its own; it has no power afterwards."""
        socket = self.folder / f"hci-{len(self.running)}"
        transport: Any = await open_transport(f"unix-server:{socket}")
        controller = self.air.controller("device", host_source=transport.source, host_sink=transport.sink)
        where = (f"--controller=unix:{socket}", f"--address={ADDRESS}", f"--state={self.state}")
        what = ("--app-id=tag", "--version=1.0.0", "--slot-size=0x20000", "--boot-ms=50")
        process = await asyncio.create_subprocess_exec(*PROGRAM, *where, *what, *options, stderr=-1)
        self.running.append(process)
        try:
            await self._advertises(process)
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()
            controller.link.remove_controller(controller)
            transport.server.close()
            await transport.close()

    async def _advertises(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async with asyncio.timeout(LIMIT_S):
            while b"advertises" not in (line := await process.stderr.readline()):
                assert line, "it ended"

    @contextlib.asynccontextmanager
    async def conversation(self, *, pair: bool = False, smp: bool = False) -> AsyncIterator[Pump]:
        name, profile = ("smp", SMP_GATT) if smp else ("tag", GATT)
        link = BleLink(only(self.radio), Target(name=name), profile, pair=pair)
        session: TransferSession = RcpGateway("lab", datagram=True, random=random.Random(1))
        if smp:
            session = SmpGateway(datagram=True, boot_s=1)
        clock = asyncio.get_running_loop().time
        async with (
            asyncio.timeout(LIMIT_S),
            Pump(link, session, clock=clock, on_notice=self.notices.append) as talk,
        ):
            yield talk


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    air = Air()
    adapter = await air.backend()
    lab = Lab(air, adapter, Radio(backend=adapter.backend), tmp_path)
    yield lab
    await lab.radio.close()
    await air.close()


async def update(talk: Pump) -> None:
    await identify(talk)
    await bring(talk, IMAGE)


async def test_an_update_as_over_a_wire(lab: Lab) -> None:
    async with lab.device("--no-pair", "--mtu=185", "--device-id=0815") as process:
        async with lab.conversation() as talk:
            assert (await identify(talk)).device_id == "0815"
            await update(talk)
            talk.session.activate(600, talk.now)
            assert await talk.outcome() == Activated(acknowledged=True)
        async with lab.conversation() as talk:  # the restart has ended the connection
            assert (await identify(talk)).image_state is ImageState.ON_TRIAL
            talk.session.confirm(IMAGE, talk.now)
            assert await talk.outcome() == Confirmed()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), LIMIT_S) == 0
    assert (lab.state / "active.bin").read_bytes() == IMAGE.content
    assert json.loads((lab.state / "device.json").read_text())["app_id"] == "tag"


async def test_a_device_with_smp_is_updated_and_starts_what_it_was_sent(lab: Lab) -> None:
    new = as_image(firmware(1))
    async with lab.device("--no-pair", "--protocol=smp"):
        async with lab.conversation(smp=True) as talk:
            assert (await identify(talk)).version == "1.0.0"
            await bring(talk, new)
            talk.session.arm(talk.now)
            assert await talk.outcome() == Armed()
            talk.session.activate(600, talk.now)
            assert isinstance(await talk.outcome(), Activated)
            with pytest.raises(LinkLost):  # the restart ends the connection
                await asyncio.wait_for(_identify_for_ever(talk), LIMIT_S)
        async with lab.conversation(smp=True) as talk:
            assert (await identify(talk)).image_state is ImageState.ON_TRIAL
            talk.session.confirm(new, talk.now)
            assert await talk.outcome() == Confirmed()
    assert (lab.state / "active.bin").read_bytes() == new.content
    assert json.loads((lab.state / "device.json").read_text())["protocol"] == "smp"


async def _identify_for_ever(talk: Pump) -> None:
    while True:
        await identify(talk)


async def test_a_power_cut_ends_the_connection_and_the_transfer_resumes(lab: Lab) -> None:
    async with lab.device("--no-pair", "--power-cut-after=15000"):
        with pytest.raises(LinkLost):
            async with lab.conversation() as talk:
                await update(talk)
        async with lab.conversation() as talk:
            await update(talk)
    offsets = [notice.offset for notice in lab.notices if isinstance(notice, TransferStarted)]
    assert [offset > 0 for offset in offsets] == [False, True]


async def test_a_bond_outlives_the_process(lab: Lab) -> None:
    async with lab.device(), lab.conversation(pair=True) as talk:
        await identify(talk)
    async with lab.device(), lab.conversation(pair=True) as talk:
        await identify(talk)
    assert lab.adapter.bonds == 1


async def test_a_controller_that_is_lent_hears_the_device(lab: Lab) -> None:
    """As this machine's kernel has one with `--controller vhci`; here bumble's host is in its place."""
    there: Any = await open_transport(f"unix-server:{lab.folder}/lent")
    here = await open_transport(f"unix:{lab.folder}/lent")
    lab.air.lend(there.source, there.sink)
    await lab.air.peripheral("tag-7", ADDRESS)
    kernel = Device.with_hci("kernel", Address("F0:F1:F2:F3:F4:F5"), here.source, here.sink)
    await kernel.power_on()
    assert not kernel.supports_le_extended_advertising
    heard: asyncio.Queue[str] = asyncio.Queue()
    kernel.on("advertisement", lambda report: heard.put_nowait(report.address.to_string(False)))
    await kernel.start_scanning()
    async with asyncio.timeout(LIMIT_S):
        assert await heard.get() == ADDRESS
    there.server.close()
    await here.close()
    await there.close()


def simulate(state: Path, *options: str) -> None:
    what = (f"--state={state}", "--app-id=tag", "--version=1.0.0")
    cli.main(["simulate", "ble", *what, *options], standalone_mode=False)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--controller=unix:/none/hci",), "cannot use the Bluetooth controller unix:/none/hci: "),
        (("--controller=telepathy",), "cannot use the Bluetooth controller telepathy: "),
        (("--controller=usb:0", "--address=00:11:22:33:44:55"), "is not a static random address"),
        (("--controller=usb:0", "--mtu=22"), "22 is not within 23 to 517"),
    ],
)
def test_what_cannot_be_is_refused(options: tuple[str, ...], says: str, tmp_path: Path) -> None:
    with pytest.raises((HostError, click.BadParameter)) as refused:
        simulate(tmp_path, *options)
    assert says in str(refused.value)


def test_without_bumble_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bumble", None)
    with pytest.raises(HostError) as refused:
        simulate(tmp_path, "--controller=usb:0")
    assert (refused.value.code, "gatewayd[simulate-ble]" in refused.value.hint) == ("bumble_missing", True)
