"""Anti-rollback marks: what raises them, what lowers them, and which board they belong to."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from lab.folders import a_folder
from lab.jobs import World, a_device, a_job, an_info, digest, genuine, some_settings

from gatewayd.config import Device, Settings
from gatewayd.jobs.eligibility import profile_of
from gatewayd.jobs.model import BoardKey, CreateJob, Verdict
from gatewayd.jobs.rollback_marks import Marked, effective, keys_of
from gatewayd.jobs.transitions import JobState
from gatewayd.ota.patch import PatchEncoding, encode_patch
from gatewayd.ota.rules import Payload, RollbackMark
from gatewayd.ota.topic import Channel, OtaTopic
from gatewayd.protocol.session import ImageState
from gatewayd.store.database import Database
from gatewayd.store.spool import Spool

OLD, NEW = 1_000, 2_000


def signed(name: str = "pump-1", **values: Any) -> Device:
    return a_device(name, **({"payload": Payload.ADVANCED, "keys": "pump"} | values))


def image(patch: int, timestamp_ms: int) -> bytes:
    """The image of `genuine(patch, timestamp_ms)`."""
    return bytes.fromhex(digest(f"image {patch} {timestamp_ms}"))


def mark(timestamp_ms: int) -> RollbackMark:
    return RollbackMark(timestamp_ms, bytes(32))


class Gateway:
    """A store, and a configuration that changes; time goes on by passes of the planner."""

    def __init__(self, folder: Path, *devices: Device) -> None:
        self.database = Database(folder / "db", Spool(folder / "spool"))
        self.settings: Settings = some_settings(*devices)

    def configure(self, *devices: Device) -> None:
        self.settings = some_settings(*devices)
        self.settle()

    def publish(self, verdict: Verdict) -> None:
        """A message arrives, and is judged in the reading of every device."""
        payload = encode_patch(verdict.patch, PatchEncoding.VARINT) + bytes.fromhex(verdict.body_sha256)
        self.database.add_release(OtaTopic("pump", 4, 3, Channel.NONE), "/a/pump/u/4.3", payload)
        newest = self.database.releases()[-1]
        for device in self.settings.devices:
            self.database.save_verdict(newest.sha256, profile_of(self.settings, device), verdict)
        self.settle()

    def withdraw(self) -> None:
        self.database.withdraw("/a/pump/u/4.3")
        self.database.sweep_spool()
        self.settle()

    def says(self, name: str = "pump-1", **info: Any) -> None:
        self.database.save_contact(name, an_info(**info))
        self.settle()

    def succeeds(self, patch: int, timestamp_ms: int, name: str = "pump-1") -> None:
        """A job for a genuine image comes to its end."""
        device = next(one for one in self.settings.devices if one.name == name)
        command = CreateJob(
            name, 1, digest("m"), "4.3.1", f"4.3.{patch}", JobState.QUEUED, timestamp_ms, digest("c")
        )
        job = self.database.create_job(command)
        assert job is not None
        self.database.move_job(job.id, JobState.TRANSFERRING, image_sha256=image(patch, timestamp_ms).hex())
        info = self.database.devices()[name].info
        assert info is not None
        running = replace(info, running=self.database.job(job.id).image)
        self.database.save_contact(name, running)
        self.database.succeed(
            job.id,
            RollbackMark(timestamp_ms, bytes.fromhex(digest("c"))),
            boards=keys_of(device, running),
            lowers=device.allow_downgrade,
        )
        self.settle()

    def settle(self) -> None:
        """Do what the planner does, until nothing is left to store."""
        for _ in range(2):
            _, saves = self._effective()
            for save in saves:
                self.database.save_mark(save)
        assert self._effective()[1] == (), "the second pass has nothing to say"

    def mark(self, name: str = "pump-1") -> int | None:
        record = self._effective()[0].get(name)
        return None if record is None or record.mark is None else record.mark.timestamp_ms

    def _effective(self) -> Any:
        database = self.database
        known = Marked(database.devices(), database.marks(), database.verdicts(), database.jobs())
        return effective(self.settings, known)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made = Gateway(tmp_path, signed())
    yield made
    made.database.close()


def test_a_newer_image_that_is_seen_running_raises_the_mark(gateway: Gateway) -> None:
    """Activated, the power fails, the job fails `no_answer`; later the device says that it runs it."""
    gateway.publish(genuine(2, OLD))
    gateway.says()
    gateway.succeeds(2, OLD)
    gateway.publish(genuine(3, NEW))
    assert gateway.mark() == OLD
    gateway.says(boot_id=9, running_sha256=image(3, NEW))
    assert gateway.mark() == NEW
    gateway.withdraw()
    assert gateway.mark() == NEW, "it does not rest on the message"


def test_an_image_whose_message_is_gone_raises_the_mark_by_the_job_that_sent_it(gateway: Gateway) -> None:
    gateway.says()
    command = CreateJob("pump-1", 1, digest("m"), "4.3.1", "4.3.3", JobState.QUEUED, NEW, digest("c"))
    job = gateway.database.create_job(command)
    assert job is not None
    gateway.database.move_job(job.id, JobState.TRANSFERRING, image_sha256=image(3, NEW).hex())
    gateway.database.move_job(job.id, JobState.FAILED, code="no_answer", reason="nobody answered")
    assert gateway.mark() is None
    gateway.says(running_sha256=image(3, NEW))
    assert gateway.mark() == NEW


@pytest.mark.parametrize(
    "info",
    [
        {"running_sha256": None, "version": "4.3.3"},
        {"running_sha256": image(3, NEW), "image_state": ImageState.ON_TRIAL},
        {"running_sha256": image(2, NEW)},
    ],
    ids=["the version says nothing", "on trial it may go back", "another image"],
)
def test_what_does_not_raise_the_mark(gateway: Gateway, info: dict[str, Any]) -> None:
    gateway.publish(genuine(3, NEW))
    gateway.says(**info)
    assert gateway.mark() is None


def test_renaming_a_device_keeps_the_mark(gateway: Gateway) -> None:
    gateway.says(device_id=None)
    gateway.succeeds(3, NEW)
    gateway.configure(signed("basement", link=gateway.settings.devices[0].link))
    assert gateway.mark("basement") == NEW


def test_a_board_that_moves_takes_its_mark_along(gateway: Gateway) -> None:
    gateway.says(device_id="X")
    gateway.succeeds(3, NEW)
    gateway.configure(signed("attic"))
    assert gateway.mark("attic") is None
    gateway.says("attic", device_id="X")
    assert gateway.mark("attic") == NEW


def test_a_board_without_an_id_whose_link_is_changed_keeps_the_higher_mark(gateway: Gateway) -> None:
    gateway.configure(signed(), signed("other"))
    for name, at in (("pump-1", OLD), ("other", NEW)):
        gateway.says(name, device_id=None)
        gateway.succeeds(3, at, name)
    gateway.configure(signed(link={"uart": "/nowhere/other"}))
    assert gateway.mark() == NEW
    gateway.configure(signed(link={"uart": "/nowhere/third"}))
    assert gateway.mark() == NEW


def test_an_id_that_appears_for_the_first_time_inherits_and_one_that_is_known_does_not(
    gateway: Gateway,
) -> None:
    gateway.says(device_id=None)
    gateway.succeeds(3, NEW)
    gateway.says(device_id="X")
    assert gateway.mark() == NEW
    gateway.configure(signed(), signed("spare"))
    gateway.says("spare", device_id="Y")
    gateway.succeeds(2, OLD, "spare")
    gateway.says("pump-1", device_id="Y")
    assert gateway.mark() == OLD, "it has a mark of its own"


def test_another_application_at_the_same_entry_begins_without_a_mark(gateway: Gateway) -> None:
    gateway.says(device_id=None)
    gateway.succeeds(3, NEW)
    gateway.configure(signed(app_id="tank"))
    assert gateway.mark() is None
    gateway.says(app_id="tank", device_id=None)
    assert gateway.mark() is None


def test_only_a_downgrade_that_was_allowed_lowers_the_mark(gateway: Gateway) -> None:
    gateway.says(device_id="X")
    gateway.succeeds(3, NEW)
    gateway.succeeds(2, OLD)
    assert gateway.mark() == NEW
    gateway.configure(signed(allow_downgrade=True))
    gateway.succeeds(2, OLD)
    assert gateway.mark() == OLD
    gateway.configure(signed())
    gateway.says(device_id="Z")
    assert gateway.mark() == OLD, "nor does an id that is new bring the higher one back"


def test_what_an_earlier_version_stored_under_a_name_counts(gateway: Gateway) -> None:
    gateway.says(device_id="X")
    gateway.database._db.execute(  # noqa: SLF001 - as 0.1.0 did
        "UPDATE devices SET mark_timestamp_ms = '2000', mark_container = x'00' WHERE name = 'pump-1'"
    )
    assert gateway.mark() == NEW
    gateway.configure(signed("renamed-with-the-upgrade"))
    gateway.says("renamed-with-the-upgrade", device_id="X")
    assert gateway.mark("renamed-with-the-upgrade") == NEW


def test_the_planner_refuses_by_the_mark_of_the_board() -> None:
    world = World(signed()).publish(genuine(4, OLD)).says(device_id="X")
    assert world.code() == "update"
    world.marks[BoardKey("pump", "id", "X")] = mark(NEW)
    assert world.code() == "rollback"
    world.says(device_id="Y")
    assert world.code() == "update"


def test_the_planner_says_what_is_not_stored_yet() -> None:
    world = World(signed()).publish(genuine(4, NEW)).says(device_id="X", running_sha256=image(4, NEW))
    (save,) = world.plan().marks
    link = world.devices[0].link.address
    assert save.keys == (BoardKey("pump", "id", "X"), BoardKey("pump", "link", link))
    assert (save.mark.timestamp_ms, save.reason) == (NEW, "the board runs an image with this timestamp")


def test_jobs_of_another_application_raise_nothing() -> None:
    world = World(signed(), signed("tank-1", app_id="tank")).says(running_sha256=image(4, NEW))
    other = a_job(device="tank-1", image_sha256=image(4, NEW).hex(), timestamp_ms=NEW)
    world.jobs.append(replace(other, container_sha256=digest("c"), state=JobState.SUCCEEDED))
    assert world.plan().marks == ()


class MarksMachine(RuleBasedStateMachine):
    """Boards are swapped, renamed, updated and downgraded; what one with an id has run is remembered."""

    PLACES = ("a", "b")
    NAMES = ("one", "two")

    def __init__(self) -> None:
        super().__init__()
        self._ends = ExitStack()
        names = dict(zip(self.PLACES, self.NAMES, strict=True))
        self.gateway = Gateway(self._ends.enter_context(a_folder()), *self._entries(names))
        self.proven: dict[str, int] = {}  # of each board: what it was known to run

    def teardown(self) -> None:
        self.gateway.database.close()
        self._ends.close()

    def _entries(self, names: dict[str, str], *, downgrade: bool = False) -> list[Device]:
        return [
            signed(name, link={"uart": f"/nowhere/{place}"}, allow_downgrade=downgrade)
            for place, name in names.items()
        ]

    @property
    def _names(self) -> list[str]:
        return [device.name for device in self.gateway.settings.devices]

    @rule(swapped=st.booleans(), suffix=st.sampled_from(["", "-new"]), downgrade=st.booleans())
    def configure(self, swapped: bool, suffix: str, downgrade: bool) -> None:
        names = [name + suffix for name in self.NAMES][:: -1 if swapped else 1]
        entries = self._entries(dict(zip(self.PLACES, names, strict=True)), downgrade=downgrade)
        self.gateway.configure(*entries)

    @rule(stamp=st.integers(1, 9))
    def publish(self, stamp: int) -> None:
        self.gateway.publish(genuine(stamp, stamp))

    @rule()
    def withdraw(self) -> None:
        self.gateway.withdraw()

    @rule(at=st.integers(0, 1), board=st.sampled_from(["X", "Y", None]), stamp=st.integers(1, 9))
    def contact(self, at: int, board: str | None, stamp: int) -> None:
        name = self._names[at]
        self.gateway.says(name, device_id=board, running_sha256=image(stamp, stamp))
        known = any(verdict.timestamp_ms == stamp for verdict in self.gateway.database.verdicts().values())
        if board is not None and known:
            self.proven[board] = max(self.proven.get(board, 0), stamp)

    @rule(at=st.integers(0, 1), stamp=st.integers(1, 9))
    def succeed(self, at: int, stamp: int) -> None:
        device = self.gateway.settings.devices[at]
        record = self.gateway.database.devices().get(device.name)
        if record is None or record.info is None:
            return
        self.gateway.succeeds(stamp, stamp, device.name)
        if (board := record.info.device_id) is not None:
            lower = stamp if device.allow_downgrade else 0
            self.proven[board] = lower or max(self.proven.get(board, 0), stamp)

    @invariant()
    def no_board_forgets_what_it_ran(self) -> None:
        for device in self.gateway.settings.devices:
            record = self.gateway.database.devices().get(device.name)
            if record is not None and record.info is not None and record.info.device_id in self.proven:
                found = self.gateway.mark(device.name)
                assert found is not None
                assert found >= self.proven[record.info.device_id]


TestMarks = MarksMachine.TestCase
TestMarks.settings = hypothesis_settings(max_examples=25, stateful_step_count=25, deadline=None)
