"""Which job runs next on which bus.

Each device has a lane: at most one attempt or probe at a time, and a time before which it is left alone. A
bus lets through as many as it can carry, one for a serial port. A device that is dead or hostile costs its
own lane, and nobody else's.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from gatewayd.codes import Again, Code, meaning
from gatewayd.config import BleSettings, Device, Settings, UartSettings
from gatewayd.delivery.attempt import Attempt, Dependencies, with_address
from gatewayd.delivery.deferral import Deferral, Paused
from gatewayd.delivery.retry import TRIAL_MARGIN_S, after_failure, back_off_s
from gatewayd.errors import GatewaydError, HostError, LinkLost
from gatewayd.jobs.model import AttemptRecord, Job
from gatewayd.jobs.transitions import INTERRUPTIBLE, JobState
from gatewayd.protocol.pace import LEAST_DURABLE_BYTES

log = structlog.get_logger()

# How often it is looked whether a port came or went: a person who plugs a cable in expects something to
# happen.
PORT_POLL_S = 1.0
RUNNABLE = frozenset({JobState.QUEUED, JobState.ACTIVATING}) | INTERRUPTIBLE
# A radio's connection that broke is made again after this long.
RECONNECT_S = 2.0
# How many failures in a row our own trouble counts for: a minute, and for a defect five.
HOST_FAILURES, DEFECT_FAILURES = 5, 8

PortIdentity = tuple[int, int, int, int] | None


@dataclass(slots=True)
class Lane:
    """One device's turn-taking."""

    device: Device
    settings: Settings
    job: Job | None = None
    not_before: float = 0.0
    probe_due: float | None = None
    probe_failures: int = 0
    activating_since: float | None = None
    port: PortIdentity = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    is_paused: bool = False
    runner: asyncio.Task[None] | None = None
    attempt: asyncio.Task[None] | None = None
    under_way: Attempt | None = None  # what `attempt` works at, when that is a job
    interruption: tuple[str, str] | None = None  # why a person, or the planner, ends the attempt
    is_ending: bool = False  # what became of the attempt is being written down, or is about to be

    def next_due(self) -> float | None:
        """When there is something to do; None: nothing.

        A pause does not hold back what was activated: only asking the device tells what became of it.
        """
        if self.job is not None and self.job.state in RUNNABLE:
            is_out = self.job.state is JobState.ACTIVATING
            return self.not_before if is_out or not self.is_paused else None
        return None if self.is_paused else self.probe_due

    def is_activating(self) -> bool:
        """Whether the device was told to restart into the image: then only asking it leads on."""
        job = self.under_way.job if self.under_way is not None else None
        return job is not None and job.state is JobState.ACTIVATING


class Scheduler:
    """Runs attempts.

    `assign` says what there is to do; `on_end` is called when an attempt or probe has ended.
    """

    def __init__(
        self,
        ends: Dependencies,
        *,
        on_end: Callable[[], None],
        on_unreachable: Callable[[Device, GatewaydError], None],
        chance: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._ends = ends
        self._on_end = on_end
        self._on_unreachable = on_unreachable
        self._chance = chance
        self._sleep = sleep
        self._lanes: dict[str, Lane] = {}
        self._changed = asyncio.Event()

    def assign(self, settings: Settings, jobs: dict[str, Job], paused: Collection[str] = frozenset()) -> None:
        """Give each configured device its active job, or none. What runs goes on undisturbed.

        Of the devices named in `paused` none is started; `interrupt` ends attempts that are running.
        """
        for device in settings.devices:
            lane = self._lanes.get(device.name)
            if lane is None:
                lane = self._lanes[device.name] = Lane(device, settings, port=port_identity(device))
                if device.probe == "start":
                    lane.probe_due = self._ends.clock()
            if lane.device.link != device.link:
                lane.port = port_identity(device)
                self._take_other_link(lane, ask=device.probe == "start")
            lane.device, lane.settings = device, settings
            lane.is_paused = device.name in paused
            self._give(lane, jobs.get(device.name))
        for name in self._lanes.keys() - {device.name for device in settings.devices}:
            lane = self._lanes.pop(name)
            if lane.runner is not None:
                lane.runner.cancel()
        self._changed.set()

    async def cancel(self, job_id: int, code: str = "cancelled", reason: str = "") -> None:
        """End the attempt at a job, if one is under way, and return when it has ended."""
        for lane in list(self._lanes.values()):
            if lane.job is None or lane.job.id != job_id:
                continue
            lane.job = None  # before its attempt ends, or the lane would begin another
            await _stop(lane, code, reason)

    async def pause(self, name: str, reason: str) -> None:
        """Begin nothing more for a device, and end what runs; its job waits.

        What was activated is let run, but not sent again.
        """
        lane = self._lanes.get(name)
        if lane is None:
            return
        lane.is_paused = True
        if not lane.is_activating():
            await _stop(lane, "paused", reason)

    def run_now(self, name: str, *, ask: bool = True) -> None:
        """Do immediately what is due for a device; with `ask`, identify it if nothing is due."""
        lane = self._lanes.get(name)
        if lane is None:
            return
        self._run_now(lane, ask=ask and lane.job is None and lane.attempt is None)
        lane.news.set()

    def under_way(self, job_id: int) -> AttemptRecord | None:
        """Return the attempt at a job as it stands; None: none is under way."""
        attempts = [lane.under_way for lane in self._lanes.values() if lane.under_way is not None]
        return next((one.standing() for one in attempts if one.job and one.job.id == job_id), None)

    def most_overdue(self) -> tuple[float, str]:
        """Return how many seconds ago a transfer should have acted and has not, and whose: the worst one."""
        lanes = self._lanes.items()
        return max(
            ((lane.under_way.overdue_s, name) for name, lane in lanes if lane.under_way), default=(0.0, "")
        )

    async def run(self) -> None:
        """Run until cancelled; then every attempt ends where it is, and its device keeps what it has."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_ports(), name="ports")
            while True:
                await self._changed.wait()
                self._changed.clear()
                for name, lane in self._lanes.items():
                    if lane.runner is None:
                        lane.runner = tasks.create_task(self._run_lane(lane), name=f"device: {name}")

    def _give(self, lane: Lane, job: Job | None) -> None:
        if lane.attempt is None:
            if job is None or lane.job is None or job.id != lane.job.id:
                lane.not_before, lane.activating_since = 0.0, None
            lane.job = job
        lane.news.set()

    def _take_other_link(self, lane: Lane, *, ask: bool) -> None:
        """Switch to another link immediately, as its settings changed. An activated image is left to run."""
        self._run_now(lane, ask=ask)
        if not lane.is_activating():
            _interrupt(lane, "reconfigured", "its link was changed in the configuration")

    def _run_now(self, lane: Lane, *, ask: bool) -> None:
        lane.not_before = 0.0
        if ask:
            lane.probe_failures, lane.probe_due = 0, self._ends.clock()

    async def _run_lane(self, lane: Lane) -> None:
        while True:
            lane.news.clear()
            due = lane.next_due()
            if due is not None and due <= self._ends.clock():
                lane.attempt = asyncio.create_task(self._turn(lane), name=f"attempt: {lane.device.name}")
                try:
                    await asyncio.wait([lane.attempt])
                finally:
                    await _end(lane.attempt)
                    lane.attempt = lane.under_way = lane.interruption = None
                    lane.is_ending = False
                self._on_end()
                continue
            try:
                async with asyncio.timeout(None if due is None else due - self._ends.clock()):
                    await lane.news.wait()
            except TimeoutError:
                pass

    async def _turn(self, lane: Lane) -> None:
        """One attempt or probe, to its end. Never raises, but for cancellation."""
        is_probe = lane.job is None or lane.job.state not in RUNNABLE
        try:
            if lane.job is None or is_probe:
                await self._probe(lane)
            else:
                await self._attempt(lane, lane.job)
        except GatewaydError as error:
            name, code, reason = lane.device.name, error.code, str(error)
            log.error("cannot record what became of it", device=name, code=code, reason=reason)  # noqa: TRY400 - not ours
            if lane.under_way is not None:
                lane.job = lane.under_way.job  # as it was stored last: the next attempt goes on from there
            self._leave_alone(lane, HOST_FAILURES, is_probe=is_probe)
        except Exception:  # the last resort: one device's trouble must not end the daemon
            log.exception("this is a defect in gatewayd, please report it", device=lane.device.name)
            self._leave_alone(lane, DEFECT_FAILURES, is_probe=is_probe)

    def _leave_alone(self, lane: Lane, failures: int, *, is_probe: bool) -> None:
        lane.not_before = self._ends.clock() + back_off_s(failures, self._chance())
        lane.probe_due = lane.not_before if is_probe else lane.probe_due

    async def _probe(self, lane: Lane) -> None:
        lane.probe_due = None
        try:
            await Attempt(self._ends, lane.settings, lane.device).probe()
            lane.probe_failures = 0
        except Deferral as deferral:
            lane.probe_due = self._ends.clock() + deferral.seconds
        except HostError:
            raise
        except GatewaydError as error:
            lane.probe_failures += 1
            lane.probe_due = self._ends.clock() + back_off_s(lane.probe_failures + 2, self._chance())
            if lane.probe_failures == 1:
                log.warning(
                    "device not reached",
                    device=lane.device.name,
                    code=error.code,
                    reason=with_address(lane.device, error),
                )
            self._on_unreachable(lane.device, error)

    async def _attempt(self, lane: Lane, job: Job) -> None:
        attempt = lane.under_way = Attempt(
            self._ends, lane.settings, lane.device, job, is_held=lambda: lane.is_paused
        )
        lane.probe_due = None  # it says HELLO as well
        now: Job | None = None
        try:
            now = await attempt.run()
        except asyncio.CancelledError:
            if lane.interruption is not None:
                now = await attempt.interrupted(*lane.interruption)
            raise
        except Paused:
            lane.is_ending = True
            now = await attempt.hold_back()
        except Deferral as deferral:
            lane.is_ending = True
            lane.not_before = self._ends.clock() + deferral.seconds
            now = await attempt.put_off(deferral)
        except GatewaydError as error:
            lane.is_ending = True
            now = await self._record(lane, attempt, job, error)
        finally:
            if lane.job is not None and now is not None:  # nobody has called it off meanwhile
                lane.job = now

    async def _record(self, lane: Lane, attempt: Attempt, job: Job, error: GatewaydError) -> Job:
        """Write down a failure, and say when there is something to do again."""
        grace = self._is_grace(lane, attempt)
        retry = after_failure(
            attempt.job or job,
            error,
            advanced=_has_advanced(attempt.durable - job.durable, error),
            attempts=lane.device.attempts,
            grace=grace,
            chance=self._chance(),
        )
        now = await attempt.record(retry, retry.error or error)
        delay_s = retry.delay_s
        if isinstance(error, LinkLost) and isinstance(lane.device.link, BleSettings):
            delay_s = min(delay_s, RECONNECT_S)  # no port comes back to be noticed
        lane.not_before = self._ends.clock() + delay_s
        is_worth_asking = meaning(error.code).again is Again.AFTER_CONTACT and lane.device.probe == "start"
        if retry.state is JobState.FAILED and is_worth_asking:
            # Nobody would notice its return otherwise; the planner tries again when it has answered.
            lane.probe_failures = retry.failures
            lane.probe_due = self._ends.clock() + back_off_s(retry.failures + 2, self._chance())
        return now

    def _is_grace(self, lane: Lane, attempt: Attempt) -> bool:
        if attempt.job is None or attempt.job.state is not JobState.ACTIVATING:
            lane.activating_since = None
            return False
        if lane.activating_since is None:
            lane.activating_since = self._ends.clock()
        return self._ends.clock() - lane.activating_since < lane.device.trial_s + TRIAL_MARGIN_S

    async def _watch_ports(self) -> None:
        while True:
            await self._sleep(PORT_POLL_S)
            for lane in self._lanes.values():
                seen = port_identity(lane.device)
                if seen == lane.port or lane.attempt is not None:
                    continue  # an attempt that loses its port ends, and then it is looked at again
                lane.port = seen
                if seen is None:
                    continue
                log.info("port is here", device=lane.device.name, port=lane.device.link.address)
                self._run_now(lane, ask=lane.device.probe == "start")
                lane.news.set()


def _has_advanced(gained_bytes: int, error: GatewaydError) -> bool:
    """Whether an attempt got far enough to be worth another one without being counted.

    One that ended because next to nothing arrived counts: a byte more in each would go on for years.
    """
    return gained_bytes >= (LEAST_DURABLE_BYTES if error.code == Code.STALLED else 1)


def port_identity(device: Device) -> PortIdentity:
    """Tell one appearance of a port from the next; None: it is not there. A radio looks always the same.

    The node may come back under the same number, so its ctime counts too (traffic changes only the other
    times), and that of the link in /dev/serial/by-id.
    """
    if not isinstance(device.link, UartSettings):
        return (0, 0, 0, 0)
    path = Path(device.link.uart)
    try:
        node, link = path.stat(), path.lstat()
    except OSError:
        return None
    return node.st_ino, node.st_rdev, node.st_ctime_ns, link.st_ctime_ns


def _interrupt(lane: Lane, code: str, reason: str) -> None:
    """End an attempt, unless it ends anyway: what became of it is written down once, and to the end."""
    if lane.attempt is not None and not lane.is_ending:
        lane.is_ending = True
        lane.interruption = (code, reason)
        lane.attempt.cancel()


async def _stop(lane: Lane, code: str, reason: str) -> None:
    """End an attempt, and return when it has ended."""
    _interrupt(lane, code, reason)
    if lane.attempt is not None:
        await asyncio.wait([lane.attempt])


async def _end(task: asyncio.Task[None]) -> None:
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
