"""What a person wants done, done: at once, for good, and to be seen."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.desk import Desk, desk

pytestmark = [pytest.mark.slow, pytest.mark.daemon]

IMAGE = random.Random(6).randbytes(40_000)
RATE = 20_000


@pytest.fixture(name="barn", scope="module")
def _barn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("ctl")) as whole:
        slow = whole.device("slow-1", rate=RATE).config(link={"baud": 115200})
        whole.configure(
            slow, whole.device("valve-1").config(install="manual"), whole.device("pump-1").config()
        )
        whole.start()
        whole.until_state("pump-1", "idle")
        yield whole


def holders(port: Path) -> set[int]:
    """Return the processes, but for its device, that have a port open."""
    node = port.stat()
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            # By its name alone a container's terminal could be meant.
            if str(link.readlink()).startswith("/dev/pts/") and os.path.samestat(link.stat(), node):
                found.add(int(link.parts[2]))
        except OSError:
            continue
    return found


def test_a_pause_survives_a_restart_frees_the_port_and_loses_nothing(barn: Desk) -> None:
    device = barn.devices["slow-1"]
    image = IMAGE * 4
    barn.publish("slow", "4.3.2", image)
    barn.until(lambda: (barn.views()["slow-1"].received_bytes or 0) > 30_000, "a fifth")
    (outcome,) = barn.json("pause", "pause", "slow-1")["outcomes"]
    assert (outcome["device"], outcome["text"]) == ("slow-1", "slow-1 is paused")
    view = barn.views()["slow-1"]
    assert (view.state, view.paused, view.code) == ("queued", True, "paused")
    assert "gatewayctl resume slow-1" in (view.reason or "")
    assert device.process is not None
    assert holders(device.port) <= {device.process.pid}, "at once"

    barn.stop()
    barn.start()
    view = barn.until_state("slow-1", "queued", paused=True)
    assert "slow-1" in barn.good("devices")
    assert "queued (paused)" in barn.good("devices", "slow-1")
    barn.until_state("pump-1", "idle")  # whose port was opened meanwhile
    assert holders(device.port) <= {device.process.pid}
    error = barn.refused("retry", "retry", "slow-1")
    assert (error["code"], error["hint"]) == ("paused", "gatewayctl resume slow-1")

    assert barn.good("resume", "slow-1") == "slow-1 goes on\n"
    barn.until_state("slow-1", "succeeded", installed_version="4.3.2")
    assert device.active == image
    (job,) = barn.jobs("slow-1")
    attempts = barn.json("job", "job", job.id)["attempts"]
    assert (attempts[0]["code"], attempts[0]["offset"]) == ("paused", 0)
    assert attempts[-1]["offset"] >= 30_000 - 8192, "it went on where it was"
    assert sum(attempt["bytes_sent"] for attempt in attempts) < len(image) + 3 * 8192
    assert job.resumes >= 1


def test_a_cancelled_update_is_not_tried_again_before_it_is_wanted(barn: Desk) -> None:
    barn.publish("slow", "4.3.3", IMAGE * 3)
    barn.until_state("slow-1", "transferring", latest_version="4.3.3")
    job = barn.jobs("slow-1")[0]
    (outcome,) = barn.json("cancel", "cancel", job.id)["outcomes"]
    assert (outcome["job"], outcome["state"]) == (job.id, "cancelled")
    view = barn.until_state("slow-1", "idle", code="cancelled")
    assert "gatewayctl retry slow-1" in (view.reason or "")
    barn.stop()
    barn.start()
    barn.until_state("slow-1", "idle", code="cancelled")
    assert barn.jobs("slow-1")[0].id == job.id

    (outcome,) = barn.json("retry", "retry", "slow-1")["outcomes"]
    assert outcome["job"] > job.id
    assert str(job.id) in outcome["text"]
    assert barn.refused("retry", "retry", job.id)["code"] == "not_the_last_job"
    barn.until_state("slow-1", "succeeded", installed_version="4.3.3")
    assert barn.devices["slow-1"].active == IMAGE * 3


def test_an_offered_update_begins_when_it_is_approved(barn: Desk) -> None:
    barn.publish("valve", "4.3.2", IMAGE)
    view = barn.until_state("valve-1", "offered", latest_version="4.3.2")
    barn.stop()
    barn.start()
    barn.until_state("valve-1", "offered")
    assert barn.devices["valve-1"].active is None
    (outcome,) = barn.json("approve", "approve", view.job)["outcomes"]
    assert outcome["device"] == "valve-1"
    barn.until_state("valve-1", "succeeded", installed_version="4.3.2")
    assert barn.devices["valve-1"].active == IMAGE
    assert barn.refused("approve", "approve", "valve-1")["code"] == "no_active_job"


def test_everything_is_paused_and_one_stays_so(barn: Desk) -> None:
    assert len(barn.json("pause", "pause")["outcomes"]) == 3
    barn.good("pause", "pump-1")
    assert barn.good("devices").startswith("Everything is paused by root since ")
    assert all(view.paused for view in barn.views().values())
    reason = barn.views()["valve-1"].reason or ""
    assert reason.endswith("(gatewayctl resume)"), "the name alone would not help"
    assert barn.refused("retry", "retry", "valve-1")["hint"] == "gatewayctl resume"
    assert barn.good("resume", "valve-1") == "valve-1 stays paused with everything else (gatewayctl resume)\n"
    told = barn.good("resume")
    assert "valve-1 goes on" in told
    assert "pump-1 stays paused by root (gatewayctl resume pump-1)" in told
    assert [name for name, view in barn.views().items() if view.paused] == ["pump-1"]
    barn.good("resume", "pump-1")


def test_a_device_without_an_update_is_asked_who_it_is(barn: Desk) -> None:
    before = barn.views()["pump-1"].last_contact_at
    assert before is not None
    assert "is asked to identify itself" in barn.good("retry", "pump-1")
    barn.until(lambda: (barn.views()["pump-1"].last_contact_at or "") >= before, "another contact")
