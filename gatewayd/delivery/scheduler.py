"""Decides when each device's attempts and probes run.

Each device has a lane: at most one attempt or probe at a time, and a time before which it is left alone. A
device that is dead or hostile holds up its own lane, and no other.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection

import structlog

from gatewayd.allowance import Allowance
from gatewayd.back_off import back_off_s
from gatewayd.codes import Again, Code, Contact, meaning
from gatewayd.config import BleSettings, Device, Settings
from gatewayd.delivery.attempt import Attempt, with_address
from gatewayd.delivery.deferral import Deferral, Paused
from gatewayd.delivery.dependencies import Dependencies
from gatewayd.delivery.lane import RUNNABLE, Lane, port_identity
from gatewayd.delivery.retry import LONGEST_WAIT_S, TRIAL_MARGIN_S, after_failure, trial_overdue
from gatewayd.errors import GatewaydError, HostError, LinkLost
from gatewayd.jobs.model import AttemptRecord, Job
from gatewayd.jobs.transitions import JobState
from gatewayd.protocol.pace import LEAST_DURABLE_BYTES

log = structlog.get_logger()

# How often to check whether a port appeared or vanished: a person who plugs in a cable expects something to
# happen.
PORT_POLL_S = 1.0
# Returns of a port that are acted on at once, and as many more an hour: after that, a device on a port that
# comes and goes is asked every few minutes.
PORT_RETURNS, PORT_RETURNS_PER_HOUR = 6, 12
# How long to wait before reconnecting a broken radio connection.
RECONNECT_S = 2.0
# As how many failures in a row our own trouble counts, and a defect: this sets the wait (see back_off.py).
HOST_FAILURES, DEFECT_FAILURES = 5, 8


class Scheduler:
    """Runs attempts and probes.

    `assign` sets what there is to do; `on_end` is called after each attempt or probe, `on_attempt` after each
    attempt with what it moved.
    """

    def __init__(
        self,
        deps: Dependencies,
        *,
        on_end: Callable[[], None],
        on_unreachable: Callable[[Device, GatewaydError], None],
        on_attempt: Callable[[str, AttemptRecord], None] = lambda *_: None,
        chance: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._deps = deps
        self._on_end = on_end
        self._on_unreachable = on_unreachable
        self._on_attempt = on_attempt
        self._chance = chance
        self._sleep = sleep
        self._lanes: dict[str, Lane] = {}
        self._changed = asyncio.Event()

    def assign(self, settings: Settings, jobs: dict[str, Job], paused: Collection[str] = frozenset()) -> None:
        """Give each configured device its active job, or none. Running attempts continue undisturbed.

        Nothing is started for devices named in `paused`; `pause` ends their running attempts.
        """
        for device in settings.devices:
            lane = self._lanes.get(device.name)
            if lane is None:
                lane = self._lanes[device.name] = Lane(device, settings, port=port_identity(device))
                if device.probe == "start":
                    lane.probe_due = self._deps.clock()
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
        """End a job's attempt, if one is under way, and return once it has ended."""
        for lane in list(self._lanes.values()):
            if lane.job is None or lane.job.id != job_id:
                continue
            lane.job = None  # before the attempt ends, or the lane would begin another
            await _stop(lane, code, reason)

    async def pause(self, name: str, reason: str) -> None:
        """Start nothing more for a device, and end its attempt; its job waits.

        An image that was activated is left to run, but not sent again.
        """
        lane = self._lanes.get(name)
        if lane is None:
            return
        lane.is_paused = True
        if not lane.is_activating():
            await _stop(lane, "paused", reason)

    def run_now(self, name: str, *, ask: bool = True) -> None:
        """Run what a device is waiting for now; with `ask`, identify it if it has no job."""
        lane = self._lanes.get(name)
        if lane is None:
            return
        self._run_now(lane, ask=ask and lane.job is None and lane.attempt is None)
        lane.news.set()

    def under_way(self, job_id: int) -> AttemptRecord | None:
        """Return a job's current attempt; None: none is under way."""
        attempts = [lane.under_way for lane in self._lanes.values() if lane.under_way is not None]
        return next((one.standing() for one in attempts if one.job and one.job.id == job_id), None)

    def most_overdue(self) -> tuple[float, str]:
        """Return by how many seconds the most overdue transfer is late, and its device."""
        lanes = self._lanes.items()
        return max(
            ((lane.under_way.overdue_s, name) for name, lane in lanes if lane.under_way), default=(0.0, "")
        )

    async def run(self) -> None:
        """Run until cancelled; then every attempt stops, and its device keeps what it has received."""
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
            lane.probe_failures, lane.probe_due = 0, self._deps.clock()

    async def _run_lane(self, lane: Lane) -> None:
        while True:
            lane.news.clear()
            due = lane.next_due()
            if due is not None and due <= self._deps.clock():
                lane.attempt = asyncio.create_task(self._turn(lane), name=f"attempt: {lane.device.name}")
                try:
                    await asyncio.wait([lane.attempt])
                finally:
                    await _end(lane.attempt)
                    if lane.under_way is not None:
                        self._on_attempt(lane.device.name, lane.under_way.standing())
                    lane.attempt = lane.under_way = lane.interruption = None
                    lane.is_ending = False
                self._on_end()
                continue
            try:
                async with asyncio.timeout(None if due is None else due - self._deps.clock()):
                    await lane.news.wait()
            except TimeoutError:
                pass

    async def _turn(self, lane: Lane) -> None:
        """Run one attempt or probe. Never raises, except when cancelled."""
        is_probe = lane.job is None or lane.job.state not in RUNNABLE
        try:
            if lane.job is None or is_probe:
                await self._probe(lane)
            else:
                await self._attempt(lane, lane.job)
        except GatewaydError as error:
            name, code, reason = lane.device.name, error.code, str(error)
            log.error("cannot store the result of an attempt", device=name, code=code, reason=reason)  # noqa: TRY400 - not ours
            if lane.under_way is not None:
                lane.job = lane.under_way.job  # as last stored: the next attempt continues from there
            self._leave_alone(lane, HOST_FAILURES, is_probe=is_probe)
        except Exception:  # the last resort: one device's trouble must not end the daemon
            log.exception("this is a defect in gatewayd, please report it", device=lane.device.name)
            self._leave_alone(lane, DEFECT_FAILURES, is_probe=is_probe)

    def _leave_alone(self, lane: Lane, failures: int, *, is_probe: bool) -> None:
        lane.not_before = self._deps.clock() + self._wait_s(failures)
        lane.probe_due = lane.not_before if is_probe else lane.probe_due

    def _wait_s(self, failures: int) -> float:
        return back_off_s(failures, self._chance(), longest_s=LONGEST_WAIT_S)

    async def _probe(self, lane: Lane) -> None:
        lane.probe_due = None
        try:
            await Attempt(self._deps, lane.settings, lane.device).probe()
            lane.probe_failures = 0
        except Deferral as deferral:
            lane.probe_due = self._deps.clock() + deferral.seconds
        except HostError:
            raise
        except GatewaydError as error:
            lane.probe_failures += 1
            lane.probe_due = self._deps.clock() + self._wait_s(lane.probe_failures + 2)
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
            self._deps, lane.settings, lane.device, job, is_held=lambda: lane.is_paused
        )
        lane.probe_due = None  # it says HELLO as well
        now: Job | None = None
        try:
            now = await attempt.deliver()
            lane.on_trial_since = None
        except asyncio.CancelledError:
            if lane.interruption is not None:
                now = await attempt.interrupted(*lane.interruption)
            raise
        except Paused:
            lane.is_ending = True
            now = await attempt.hold_back()
        except Deferral as deferral:
            lane.is_ending = True
            lane.not_before = self._deps.clock() + deferral.seconds
            now = await attempt.put_off(deferral)
        except GatewaydError as error:
            lane.is_ending = True
            now = await self._record(lane, attempt, job, error)
        finally:
            if lane.job is not None:  # it was not cancelled meanwhile
                lane.job = now or attempt.job  # the latter as it was stored last

    async def _record(self, lane: Lane, attempt: Attempt, job: Job, error: GatewaydError) -> Job:
        """Store a failure, and schedule what comes next."""
        grace = self._is_grace(lane, attempt)
        error = self._judge_trial(lane, error)
        retry = after_failure(
            attempt.job or job,
            error,
            advanced=_has_advanced(_gained_bytes(lane, attempt, job), error),
            attempts=lane.device.attempts,
            grace=grace,
            chance=self._chance(),
        )
        now = await attempt.record(retry, retry.error or error)
        delay_s = retry.delay_s
        if isinstance(error, LinkLost) and isinstance(lane.device.link, BleSettings):
            delay_s = min(delay_s, RECONNECT_S)  # no port reappears to end the wait early
        lane.not_before = self._deps.clock() + delay_s
        is_worth_asking = meaning(error.code).again is Again.AFTER_CONTACT and lane.device.probe == "start"
        if retry.state is JobState.FAILED and is_worth_asking:
            # Otherwise its return would go unnoticed; the planner tries again once it answers.
            lane.probe_failures = retry.failures
            lane.probe_due = self._deps.clock() + self._wait_s(retry.failures + 2)
        return now

    def _judge_trial(self, lane: Lane, error: GatewaydError) -> GatewaydError:
        """Give a trial that lasts longer than it can a code of its own. Silence says nothing of it."""
        if error.code != Code.ON_TRIAL:
            if meaning(error.code).contact is Contact.MADE:
                lane.on_trial_since = None
            return error
        now, trial_s = self._deps.clock(), lane.device.trial_s
        if lane.on_trial_since is None:
            lane.on_trial_since = now
        return trial_overdue(trial_s) if now - lane.on_trial_since >= trial_s + TRIAL_MARGIN_S else error

    def _is_grace(self, lane: Lane, attempt: Attempt) -> bool:
        if attempt.job is None or attempt.job.state is not JobState.ACTIVATING:
            lane.activating_since = None
            return False
        if lane.activating_since is None:
            lane.activating_since = self._deps.clock()
        return self._deps.clock() - lane.activating_since < lane.device.trial_s + TRIAL_MARGIN_S

    async def _watch_ports(self) -> None:
        while True:
            await self._sleep(PORT_POLL_S)
            for lane in self._lanes.values():
                seen = port_identity(lane.device)
                if seen == lane.port or lane.attempt is not None:
                    continue  # an attempt that loses its port ends, and then the port is checked again
                lane.port = seen
                if seen is None:
                    continue
                self._port_returned(lane)
                lane.news.set()

    def _port_returned(self, lane: Lane) -> None:
        """Run what waited for the port; on one that comes and goes, only now and then."""
        ask, clock = lane.device.probe == "start", self._deps.clock
        if lane.returns is None:
            lane.returns = Allowance(PORT_RETURNS, PORT_RETURNS_PER_HOUR, clock)
        if lane.returns.take():
            log.info("port is here", device=lane.device.name, port=lane.device.link.address)
            self._run_now(lane, ask=ask)
        elif ask:
            due = clock() + lane.returns.ready_in_s()
            lane.probe_due = due if lane.probe_due is None else min(due, lane.probe_due)


def _gained_bytes(lane: Lane, attempt: Attempt, job: Job) -> int:
    """Return how much further than ever the device got."""
    before = lane.volatile[1] if lane.volatile[0] == job.id else 0
    lane.volatile = (job.id, max(before, attempt.volatile))
    return max(attempt.durable - job.durable, attempt.volatile - before)


def _has_advanced(gained_bytes: int, error: GatewaydError) -> bool:
    """Whether an attempt advanced enough not to count as fruitless.

    One that stalled needs more than a byte, or it could go on for years.
    """
    return gained_bytes >= (LEAST_DURABLE_BYTES if error.code == Code.STALLED else 1)


def _interrupt(lane: Lane, code: str, reason: str) -> None:
    """End an attempt, unless it is ending already: its result is stored once, and completely."""
    if lane.attempt is not None and not lane.is_ending:
        lane.is_ending = True
        lane.interruption = (code, reason)
        lane.attempt.cancel()


async def _stop(lane: Lane, code: str, reason: str) -> None:
    """End an attempt, and return once it has ended."""
    _interrupt(lane, code, reason)
    if lane.attempt is not None:
        await asyncio.wait([lane.attempt])


async def _end(task: asyncio.Task[None]) -> None:
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
