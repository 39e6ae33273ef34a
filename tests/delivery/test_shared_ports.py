"""Two names that lead to one port, as after a boot in which two adapters with one serial number swapped."""

import asyncio
from pathlib import Path

import pytest
from lab.board import Board
from lab.jobs import a_device, an_rcp_info, timeless, until
from lab.scheduler_rig import a_rig
from structlog.testing import capture_logs

from gatewayd.jobs.transitions import JobState


@pytest.mark.attack("two names that lead to one port", "port_shared")
@timeless
async def test_neither_is_opened_and_the_others_are_served(tmp_path: Path) -> None:
    for node in ("ttyUSB0", "ttyUSB1", "ttyUSB2"):
        (tmp_path / node).touch()
    names = {"pump-1": "by-id", "pump-2": "ttyUSB1", "pump-3": "ttyUSB2"}
    (tmp_path / "by-id").symlink_to("ttyUSB1")
    devices = [a_device(name, link={"uart": str(tmp_path / port)}) for name, port in names.items()]
    boards = {name: Board(an_rcp_info(device_id=name)) for name in names}
    with capture_logs() as logs:
        async with a_rig(tmp_path, *devices, boards=boards) as rig:
            rig.assign(await rig.bench.a_job())
            await asyncio.sleep(600)
            assert [len(board.opened_at) for board in boards.values()] == [0, 0, 1]
            job = await rig.bench.job()
            assert (job.state, job.failures, job.code) == (JobState.QUEUED, 0, "port_shared")
            assert "pump-2 (" in job.reason
            assert set(rig.unreachable) == {"pump-2: port_shared"}
            (tmp_path / "by-id").unlink()
            (tmp_path / "by-id").symlink_to("ttyUSB0")
            await rig.run_until(JobState.SUCCEEDED, limit_s=20)
            await until(lambda: len(boards["pump-2"].opened_at) == 1, 600)
    told = [line for line in logs if line.get("code") == "port_shared"]
    assert [line["log_level"] for line in told].count("warning") == 2, "once for each of the two"
