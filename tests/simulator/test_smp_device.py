"""The virtual SMP device as a file, and as `gatewayctl simulate uart --protocol smp`."""

import asyncio
import json
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from lab.containers import gatewayctl
from lab.smp.memory import Lab, Worker, firmware

from gatewayd.errors import HostError
from gatewayd.ota.version import Version
from gatewayd.protocol.session import Failed, Identified
from gatewayd.protocol.smp.gateway import SmpGateway
from gatewayd.protocol.smp.mcuboot import read_image
from gatewayd.protocol.smp.permissions import ORDINARY, Permissions
from gatewayd.protocol.smp.wire import Framing
from gatewayd.protocol.steps import Step
from gatewayd.simulator.smp.device import SmpDevice
from gatewayd.simulator.smp.server import OVERWRITE_ONLY, SWAP_USING_OFFSET, ServerProfile

FIRST = Version(1, 0, 0)
LIMIT_S = 120
SIMULATE = (sys.executable, "-m", "gatewayd.cli.ctl", "simulate", "uart")


class Table:
    """A device in a folder, and a gateway in memory; each `start` is a start of the process."""

    device: SmpDevice

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.log: list[str] = []
        self._running = ExitStack()
        self.now = 0.0

    def start(self, *, hangs_on_trial: bool = False, may: Permissions = ORDINARY, **profile: Any) -> Lab:
        self.stop()
        built = ServerProfile(**{"mode": SWAP_USING_OFFSET} | profile)
        self.device = SmpDevice(
            self.state, built, FIRST, baud=115200, log=self.log.append, now=self.now,
            hangs_on_trial=hangs_on_trial,
        )  # fmt: skip
        self._running.callback(self.device.close)
        session = SmpGateway(framing=built.framing, boot_s=2, may=may)
        server: Any = self.device  # has what a Lab needs of a server
        lab = Lab(server, session)
        lab.now = self.now
        lab.wait(1.0)
        return lab

    def stop(self) -> None:
        self._running.close()

    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.state / "device.json").read_text())
        return found


@pytest.fixture
def table(tmp_path: Path) -> Any:
    made = Table(tmp_path)
    yield made
    made.stop()


@pytest.mark.parametrize("framing", Framing)
def test_an_update_is_kept(table: Table, framing: Framing) -> None:
    image = firmware(4)
    assert Worker(table.start(framing=framing), image).run() is Step.SUCCEED
    assert table.log == [
        f"offer of 1.0.4, {len(image)} bytes",
        "activates 1.0.4",
        "starts 1.0.4 on trial",
        "confirmed: 1.0.4",
    ]
    assert (table.state / "active.bin").read_bytes() == image
    assert table.facts() == {"protocol": "smp", "version": "1.0.4", "hardware_id": table.device.profile.board}
    table.start(board="another")
    assert table.device.version == "1.0.4"
    assert table.facts()["hardware_id"] != "another", "device.json wins"


def test_an_image_that_hangs_is_taken_back_by_the_next_start(table: Table) -> None:
    worker = Worker(table.start(hangs_on_trial=True), firmware(4))
    assert isinstance(worker.run(), Failed)
    assert table.facts()["version"] == "1.0.4"
    table.now = worker.lab.now
    worker.lab = table.start(hangs_on_trial=True)
    assert worker.run() is Step.FAIL_REVERTED
    assert table.facts()["version"] == "1.0.0"


def test_overwrite_only_keeps_no_old_image(table: Table) -> None:
    may = Permissions(leave_recovery=True, use_recovery=False, start_without_trial=True)
    lab = table.start(mode=OVERWRITE_ONLY, may=may)
    told = lab.run(lambda now: lab.session.identify(now, 5.0))
    assert isinstance(told, Identified)
    assert told.info.can_revert is False
    assert Worker(lab, firmware(4)).run() is Step.SUCCEED
    assert "starts 1.0.4" in table.log
    table.start(mode=OVERWRITE_ONLY)
    assert table.facts()["version"] == "1.0.4"


def test_a_device_is_run_once_and_its_folder_must_be_one(table: Table) -> None:
    table.start()
    with pytest.raises(HostError) as refused:
        Table(table.state.parent).start()
    assert refused.value.code == "device_in_use"
    table.stop()
    (table.state / "flash.bin").write_bytes(b"\xff" * 100)
    with pytest.raises(HostError) as refused:
        table.start()
    assert refused.value.code == "bad_device_state"


def test_the_first_image_is_one(table: Table) -> None:
    table.start()
    assert read_image((table.state / "active.bin").read_bytes()).version == "1.0.0"


def test_rcp_needs_an_application(tmp_path: Path) -> None:
    ran = gatewayctl(
        "simulate", "uart", "--port", tmp_path / "p", "--state", tmp_path / "s", "--version", "1.0.0"
    )
    assert (ran.exit_code, "'--app-id'" in ran.err) == (2, True)


async def test_a_process_names_the_options_that_smp_has_no_place_for(tmp_path: Path) -> None:
    port = tmp_path / "port"
    where = ("--port", str(port), "--state", str(tmp_path / "state"), "--version", "1.2.3")
    options = ("--protocol", "smp", "--slot-address", "0x2000")
    process = await asyncio.create_subprocess_exec(*SIMULATE, *where, *options, stderr=-1)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(LIMIT_S):
            assert await process.stderr.readline() == b"not used with SMP: --slot-address\n"
            assert b"listens at" in await process.stderr.readline()
        assert port.is_char_device()
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), LIMIT_S) == 0
        await process.communicate()
    assert not port.exists()
