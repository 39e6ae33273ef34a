"""A device in memory that does as protocol.md says, or as badly as a test wants; and a gateway around it."""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from gatewayd.config import Device, Settings
from gatewayd.delivery.dependencies import Dependencies
from gatewayd.delivery.progress import TransferProgress
from gatewayd.errors import DeviceError, LinkError, LinkLost
from gatewayd.images.reader import FirmwareReader
from gatewayd.jobs.model import CreateJob, Job
from gatewayd.jobs.transitions import JobState
from gatewayd.link.base import LeadsToOne
from gatewayd.protocol.rcp.activation import has_restarted, next_step
from gatewayd.protocol.rcp.info import RcpInfo
from gatewayd.protocol.session import (
    Activated,
    AlreadyRunning,
    Confirmed,
    DeviceInfo,
    Event,
    Failed,
    Identified,
    Image,
    ImageState,
    Outcome,
    Progress,
    Staged,
    Traffic,
    TransferStarted,
)
from gatewayd.protocol.steps import Step, Update
from gatewayd.store.database import Database
from gatewayd.store.store import Store
from lab.jobs import IMAGE, TOPIC, TOPIC_TEXT, clock, genuine, message, some_settings, standard_reading

BOOT_S = 0.5
RESEND_S = 4.5  # longer than any pace a test sets
PIECES = 3  # in which an image is sent


class Board:
    """What a device remembers, what it does wrong, and what was done to it."""

    def __init__(self, info: RcpInfo) -> None:
        self.info = info
        self.offered: Image | None = None
        self.received: dict[bytes, int] = {}  # durable bytes by SHA-256
        self.staged: bytes | None = None
        self.old = info
        self.boots_at = 0.0
        self.boot_s = BOOT_S
        # Faults
        self.is_silent = False
        self.is_unplugged = False
        self.cannot_open: LinkError | None = None
        self.ignored_activates = 0
        self.restarts_instead_of_activate = 0
        self.restarts_before_the_flag = 0
        self.gives_up = False
        self.says_after_giving_up = ImageState.REVERTED
        self.calls_itself: str | None = ""  # "": as it was offered
        self.forgets_sha256 = False
        self.pace_s = 0.0
        self.says: dict[str, deque[Outcome]] = {}
        # What was done
        self.heard: list[str] = []
        self.opened_at: list[float] = []
        self.is_open = False
        self.started: list[bytes] = []  # images that the bootloader started
        self.on_activate: Callable[[], None] = lambda: None

    def hear(self, frame: str) -> str:
        """Take a frame; returns the answer, or nothing."""
        if self.is_silent or clock() < self.boots_at:
            return ""
        self.heard.append(frame)
        if self.says.get(frame):
            return f"say {frame}"
        return {
            "hello": lambda: "info",
            "offer": self._offer,
            "data": self._data,
            "finish": self._finish,
            "activate": self._activate,
            "confirm": self._confirm,
        }[frame]()

    def _offer(self) -> str:
        image, info = self.offered, self.info
        assert image
        if image.sha256 == info.running_sha256:
            return "have it"
        if info.image_state is ImageState.ON_TRIAL:
            return "refuse on_trial"
        if image.sha256 == info.tried_sha256 and not (image.second_try and info.tried_count == 1):
            return "refuse already_tried"
        return "accept"

    def _data(self) -> str:
        assert self.offered
        size = len(self.offered.content)
        have = self.received.get(self.offered.sha256, 0)
        self.received[self.offered.sha256] = min(size, have + -(-size // PIECES))
        return "ack"

    def _finish(self) -> str:
        assert self.offered
        assert self.received[self.offered.sha256] == len(self.offered.content)
        self.staged = self.offered.sha256
        return "staged"

    def _activate(self) -> str:
        if self.ignored_activates:
            self.ignored_activates -= 1
            return ""
        assert self.offered
        if self.staged != self.offered.sha256:
            return ""
        if self.restarts_instead_of_activate:
            self.restarts_instead_of_activate -= 1
            self.restart()
            return ""
        again = self.info.tried_sha256 == self.staged
        self.info = replace(
            self.info, tried_sha256=self.staged, tried_count=self.info.tried_count + 1 if again else 1
        )
        if self.restarts_before_the_flag:
            self.restarts_before_the_flag -= 1
            self.restart()
        else:
            self._start(self.offered)
        return "activated"

    def _start(self, image: Image) -> None:
        self.started.append(image.sha256)
        self.old = self.info
        self.restart()
        if self.gives_up:
            self.info = replace(self.info, image_state=self.says_after_giving_up)
            return
        state = ImageState.ON_TRIAL if self.info.can_revert else ImageState.CONFIRMED
        version = image.version if self.calls_itself == "" else self.calls_itself
        running = None if self.forgets_sha256 else image.sha256
        self.info = replace(self.info, running_sha256=running, version=version, image_state=state)

    def _confirm(self) -> str:
        self.info = replace(self.info, image_state=ImageState.CONFIRMED)
        return "confirmed"

    def restart(self) -> None:
        """Restart; STAGED does not survive it."""
        self.staged = None
        self.boots_at = clock() + self.boot_s
        self.info = replace(self.info, boot_id=self.info.boot_id + 1)


class BoardLink(LeadsToOne):
    """A `Link` to a board."""

    is_datagram = False
    vanishes_with_device = False
    max_datagram = None

    def __init__(self, board: Board) -> None:
        self._board = board
        self._answers: asyncio.Queue[bytes] = asyncio.Queue()

    async def open(self) -> None:
        self._board.opened_at.append(clock())
        await asyncio.sleep(0)
        if self._board.is_unplugged:
            raise LinkError("/dev/board does not exist", code="link_missing")
        if self._board.cannot_open is not None:
            raise self._board.cannot_open
        assert not self._board.is_open, "two have it open"
        self._board.is_open = True

    async def close(self) -> None:
        self._board.is_open = False

    async def send(self, data: bytes, *, confirmed: bool = False) -> None:
        assert not confirmed
        assert self._board.is_open
        await asyncio.sleep(self._board.pace_s)
        if self._board.is_unplugged:
            raise LinkLost("/dev/board is gone")
        answer = self._board.hear(data.decode())
        if answer:
            self._answers.put_nowait(b"%s: %s" % (data, answer.encode()))

    async def receive(self) -> bytes:
        return await self._answers.get()

    async def set_baud(self, baud: int) -> None:
        raise AssertionError(baud)


class BoardSession:
    """A `TransferSession` in words."""

    needs_response = False
    arms_first = False
    quiet_s = 0.0

    def __init__(self, board: Board) -> None:
        self.traffic = Traffic()
        self._board = board
        self._frame = ""
        self._due = 0.0
        self._limit = 0.0
        self._silence: Outcome
        self._events: deque[Event] = deque()

    def identify(self, now: float, patience_s: float) -> None:
        silence = Failed(LinkError(f"no answer within {patience_s:g} s", code="no_answer"))
        self._begin("hello", now, patience_s, silence)

    def transfer(self, image: Image, now: float) -> None:
        self._board.offered = image
        self._begin("offer", now, 10.0, Failed(DeviceError("nothing moves", code="stalled")))

    def activate(self, trial_s: int, now: float) -> None:
        assert trial_s > 0
        self._board.on_activate()
        self._begin("activate", now, 12.0, Activated(acknowledged=False))

    def confirm(self, image: Image, now: float) -> None:
        assert image.sha256
        self._begin("confirm", now, 3.0, Failed(LinkError("no answer", code="no_answer")))

    def arm(self, now: float) -> None:
        raise AssertionError(now)

    def next_step(self, update: Update) -> Step:
        return next_step(update, self._board.info)

    def has_restarted(self, update: Update) -> bool:
        return has_restarted(update, self._board.info)

    def receive_data(self, data: bytes, now: float) -> None:
        frame, answer = data.decode().split(": ")
        if frame != self._frame:
            return  # the answer to a frame that was sent twice
        if answer.startswith("refuse "):
            self._end(Failed(DeviceError("refused", code=answer.removeprefix("refuse "))))
        elif answer.startswith("say "):
            self._end(self._board.says[answer.removeprefix("say ")].popleft())
        elif answer in ("accept", "ack"):
            self._go_on(answer, now)
        else:
            outcomes: dict[str, Outcome] = {
                "info": Identified(self._board.info.common),
                "have it": AlreadyRunning(),
                "staged": Staged(self._board.info.common),
                "activated": Activated(acknowledged=True),
                "confirmed": Confirmed(),
            }
            self._end(outcomes[answer])

    def set_max_datagram(self, size_bytes: int) -> None:
        raise AssertionError(size_bytes)

    def data_to_send(self, now: float) -> bytes:
        if not self._frame or now < self._due:
            return b""
        self._due = now + RESEND_S
        return self._frame.encode()

    def next_event(self) -> Event | None:
        return self._events.popleft() if self._events else None

    def rest_until(self) -> float:
        return -math.inf

    def next_deadline(self) -> float | None:
        return min(self._due, self._limit) if self._frame else None

    def handle_timeout(self, now: float) -> None:
        if self._frame and now >= self._limit:
            self._end(self._silence)

    def _begin(self, frame: str, now: float, limit_s: float, silence: Outcome) -> None:
        if self._frame:
            raise RuntimeError("an operation is under way")
        self._frame, self._due, self._limit, self._silence = frame, now, now + limit_s, silence

    def _go_on(self, answer: str, now: float) -> None:
        assert self._board.offered
        size = len(self._board.offered.content)
        received = self._board.received.get(self._board.offered.sha256, 0)
        self._events.append(
            TransferStarted(received, size) if answer == "accept" else Progress(received, received, size)
        )
        self._frame = "finish" if received == size else "data"
        self._due, self._limit = now, now + 10.0

    def _end(self, outcome: Outcome) -> None:
        self._frame = ""
        self._events.append(outcome)


class Witness:
    """A `Watcher` that remembers."""

    def __init__(self) -> None:
        self.moves: list[Job] = []
        self.received: list[int] = []
        self.seen: list[str] = []
        self.rivals: list[str] = []

    def job_moved(self, job: Job) -> None:
        self.moves.append(job)

    def progressed(self, job: Job, progress: TransferProgress) -> None:
        assert progress.bytes_per_s >= 0
        assert job.state is JobState.TRANSFERRING
        self.received.append(progress.received)

    def device_seen(self, device: Device, info: DeviceInfo) -> None:
        assert info.app_id in (None, device.app_id)
        self.seen.append(device.name)

    def line_contested(self, device: Device, reason: str) -> None:
        self.rivals.append(f"{device.name}: {reason}")

    @property
    def states(self) -> list[str]:
        return [str(job.state) for job in self.moves]


class Bench:
    """A store in a folder, boards by the names of their devices, and what a worker needs of them."""

    def __init__(self, store: Store, boards: dict[str, Board], *devices: Device) -> None:
        self.store = store
        self.boards = boards
        self.settings: Settings = some_settings(*devices)
        self.witness = Witness()
        self.deps = Dependencies(
            store=store,
            firmware=FirmwareReader(store.spool),
            watcher=self.witness,
            make_link=lambda device: BoardLink(boards[device.name]),
            make_session=lambda device: BoardSession(boards[device.name]),
            clock=clock,
        )

    @property
    def device(self) -> Device:
        return self.settings.devices[0]

    @property
    def board(self) -> Board:
        return self.boards[self.device.name]

    async def a_job(self, patch: int = 2, image: bytes = IMAGE, **values: Any) -> Job:
        """Publish, verify and make a job of it."""
        await self.store.add_release(TOPIC, TOPIC_TEXT, message(patch, image))
        release = (await self.store.run(Database.releases))[-1]
        await self.store.run(lambda db: db.save_verdict(release.sha256, standard_reading(), genuine(patch)))
        new = CreateJob(
            self.device.name, release.id, release.sha256, "4.3.1", f"4.3.{patch}", JobState.QUEUED, None, ""
        )
        job = await self.store.run(lambda db: db.create_job(replace(new, **values)))
        assert job is not None
        return job

    async def job(self, id_: int = 1) -> Job:
        return await self.store.run(lambda db: db.job(id_))


@asynccontextmanager
async def a_bench(folder: Path, boards: dict[str, Board], *devices: Device) -> AsyncIterator[Bench]:
    async with Store(folder) as store:
        yield Bench(store, boards, *devices)
