"""Runs the planner, pass after pass, and carries out what it decides.

`changed` may be called from anywhere on the loop, any number of times: every change to the planner's input
leads to another pass.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import structlog

from gatewayd.allowance import Allowance
from gatewayd.config import Settings
from gatewayd.delivery.scheduler import Scheduler
from gatewayd.errors import GatewaydError, HostError
from gatewayd.images.reader import FirmwareReader
from gatewayd.jobs.model import (
    EVERYTHING,
    CreateJob,
    DecodeProfile,
    JobChange,
    Plan,
    Release,
    SaveMark,
    Verdict,
)
from gatewayd.jobs.transitions import JobState
from gatewayd.ota.container import built_at
from gatewayd.planning.keeping import superfluous
from gatewayd.planning.planner import REST_LIMIT_S, StoreSnapshot, plan
from gatewayd.store.database import Database
from gatewayd.store.store import Store

log = structlog.get_logger()

# New jobs for one device and one message after failures of the same: for a device that fails for ever there
# would be one every few minutes, each with records to write. A person's `retry` is not limited.
RETRIES_AT_ONCE, RETRIES_PER_HOUR = 4, 3600 / REST_LIMIT_S
# Marks for one device: what is not written now is found again with each pass.
MARKS_PER_HOUR = 12
# After a storage failure: short for a person who has made room, long enough for a disk still full.
STORAGE_RETRY_S = 10.0


class Reconciler:
    """Plans pass after pass. `on_plan` is called with each result, which has the topics to follow."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        firmware: FirmwareReader,
        scheduler: Scheduler,
        *,
        on_plan: Callable[[Plan, StoreSnapshot], None],
        turned_away: Callable[[], Mapping[str, GatewaydError]] = dict,
        is_unconfirmed: Callable[[str], bool] = lambda _topic: False,
    ) -> None:
        self._settings = settings
        self._store = store
        self._firmware = firmware
        self._scheduler = scheduler
        self._on_plan = on_plan
        self._turned_away = turned_away
        self._is_unconfirmed = is_unconfirmed
        self._news = asyncio.Event()
        self._turn = asyncio.Lock()
        self._waiting: list[asyncio.Future[None]] = []
        self._logged: dict[str, tuple[str, str]] = {}
        self._retries: dict[tuple[str, str], Allowance] = {}
        self._marks: dict[str, Allowance] = {}
        self.latest: StoreSnapshot | None = None  # what the last pass planned with

    @property
    def settings(self) -> Settings:
        """The configuration in force."""
        return self._settings

    def changed(self) -> None:
        """Note that the planner's input has changed."""
        self._news.set()

    async def known(self) -> StoreSnapshot:
        """Return the planner's input as it is now. Raises HostError."""
        stored = await self._store.run(_read)
        topics = {release.topic for release in stored.releases if release.retained}
        return replace(
            stored,
            turned_away=self._turned_away(),
            unconfirmed=frozenset(filter(self._is_unconfirmed, topics)),
            resting=frozenset(key for key, allowance in self._retries.items() if not allowance.has()),
        )

    @asynccontextmanager
    async def between_passes(self) -> AsyncIterator[None]:
        """Hold the planner while a command is carried out; then, even if it failed, plan again."""
        try:
            async with self._turn:
                yield
        finally:
            self.changed()

    async def configure(self, settings: Settings) -> None:
        """Plan with another configuration from now on."""
        async with self.between_passes():
            self._settings = settings

    async def settled(self) -> None:
        """Return when everything that has changed so far is planned and acted upon. Raises HostError."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self.changed()
        await waiting

    async def run(self) -> None:
        """Plan, pass after pass, until cancelled."""
        while True:
            self._news.clear()
            waiting, self._waiting = self._waiting, []
            try:
                async with self._turn:
                    again = await self._pass()
            except HostError as error:
                log.error("cannot plan", code=error.code, reason=str(error))  # noqa: TRY400 - the cause is outside
                _resolve(waiting, error)
                await asyncio.sleep(STORAGE_RETRY_S)
                continue
            if again:
                self._waiting += waiting
            else:
                _resolve(waiting)
                await self._news.wait()

    async def _pass(self) -> bool:
        """Plan once and act; True if that changed the planner's input."""
        known = await self.known()
        result = plan(self._settings, known)
        self._log_decisions(result)
        for mark in result.marks:
            await self._save_mark(mark)
        for change in result.job_changes:
            await self._carry_out(change, known)
        if result.job_changes or result.marks:
            known = await self.known()
        self.latest = known
        self._on_plan(result, known)
        everybody = [device.name for device in self._settings.devices]
        keyless = {one.name for one in self._settings.devices if self._settings.missing_keys(one)}
        self._scheduler.assign(
            self._settings,
            {
                job.device: job
                for job in known.jobs
                if job.is_active
                and job.id not in result.held
                and (job.device not in keyless or job.state is JobState.ACTIVATING)
            },
            everybody if EVERYTHING in known.pauses else known.pauses.keys(),
        )
        if result.to_verify:
            await self._verify(*result.to_verify[0])
            return True
        await self._tidy(known)
        return bool(result.job_changes)

    async def _verify(self, release: Release, profile: DecodeProfile, keys: str) -> None:
        """Verify one release, and store the verdict for the next pass."""
        try:
            verdict = await self._firmware.verify(release.sha256, profile, self._settings.key_sets.get(keys))
        except HostError as error:  # one bad sector must not hold up the other releases
            verdict = Verdict(code=error.code, reason=str(error))
        await self._store.run(lambda db: db.save_verdict(release.sha256, profile, verdict))
        if verdict.is_genuine:
            log.info("release verified", topic=release.topic, patch=verdict.patch)
        else:
            log.warning("release refused", topic=release.topic, code=verdict.code, reason=verdict.reason)

    async def _save_mark(self, change: SaveMark) -> None:
        """Store a mark before anything that it is derived from, such as a release, is removed."""
        if not self._marks.setdefault(change.device, self._allowance(MARKS_PER_HOUR, MARKS_PER_HOUR)).take():
            return
        await self._store.run(lambda db: db.save_mark(change))
        log.info(
            "anti-rollback mark",
            device=change.device,
            timestamp_ms=change.mark.timestamp_ms,
            built_at=built_at(change.mark.timestamp_ms),
            boards=[key.value for key in change.keys],
            reason=change.reason,
        )

    def _count_retry(self, change: CreateJob, known: StoreSnapshot) -> None:
        """Count a job for what failed before, and plan again once the next one may be made."""
        key = change.device, change.message_sha256
        before = [job for job in known.jobs if key == (job.device, job.message_sha256)]
        if not before or before[-1].state is not JobState.FAILED or before[-1].retry_allowed:
            self._retries.pop(key, None)  # a new message, another board, or a person's order: all begins anew
            return
        allowance = self._retries.setdefault(key, self._allowance(RETRIES_AT_ONCE, RETRIES_PER_HOUR))
        allowance.take()
        if wait_s := allowance.ready_in_s():
            asyncio.get_running_loop().call_later(wait_s + 1, self.changed)

    @staticmethod
    def _allowance(burst: float, per_hour: float) -> Allowance:
        return Allowance(burst, per_hour, asyncio.get_running_loop().time)

    async def _carry_out(self, change: JobChange, known: StoreSnapshot) -> None:
        if isinstance(change, CreateJob):
            job = await self._store.run(lambda db: db.create_job(change))
            self._count_retry(change, known)
            if job is not None:
                log.info("job made", device=job.device, job=job.id, version=job.version, state=str(job.state))
            return
        await self._scheduler.cancel(change.job_id, change.code, change.reason)
        job = await self._store.run(lambda db: db.end_job(change))
        if job is not None:
            log.info(
                "job ended",
                device=job.device,
                job=job.id,
                state=str(job.state),
                code=job.code,
                reason=job.reason,
            )

    async def _tidy(self, known: StoreSnapshot) -> None:
        drop = superfluous(known)
        if drop:
            await self._store.run(lambda db: db.drop_releases(drop))
        await self._store.run(lambda db: db.sweep_spool())

    def _log_decisions(self, result: Plan) -> None:
        """Log decisions that differ from those of the last pass."""
        for decision in result.decisions:
            told = (decision.code, decision.reason)
            if self._logged.get(decision.device) != told:
                self._logged[decision.device] = told
                level = log.warning if decision.refused else log.info
                level("decision", device=decision.device, code=decision.code, reason=decision.reason)


def _resolve(waiting: list[asyncio.Future[None]], error: HostError | None = None) -> None:
    for one in waiting:
        if not one.done():
            one.set_exception(error) if error else one.set_result(None)


def _read(database: Database) -> StoreSnapshot:
    return StoreSnapshot(
        database.releases(),
        database.verdicts(),
        database.devices(),
        database.jobs(),
        database.pauses(),
        database.marks(),
    )
