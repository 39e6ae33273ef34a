"""The contact with one device over one opening of its link: who is there, is it the right one, is it back.

A link may lead to another device than the configuration means: boards get swapped, and several devices may
advertise what is looked for over Bluetooth. So each contact begins with an identification, which is checked,
and devices that are strangers are passed over where the link can find another one. A link that goes down with
the device (Bluetooth, native USB) is opened again after a restart.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from structlog.typing import FilteringBoundLogger

from gatewayd.codes import Code, Contact, meaning
from gatewayd.config import Device, Settings, Wake
from gatewayd.delivery.admission import check_is_begun_with, check_is_meant, check_port_is_not_shared
from gatewayd.delivery.deferral import Deferral
from gatewayd.delivery.dependencies import Dependencies
from gatewayd.delivery.pump import Pump
from gatewayd.errors import DeviceError, GatewaydError, LinkError, LinkLost
from gatewayd.jobs.model import Job
from gatewayd.jobs.transitions import JobState
from gatewayd.protocol.session import (
    Deferred,
    DeviceInfo,
    Event,
    Failed,
    Identified,
    Outcome,
    TransferSession,
)
from gatewayd.timestamps import seconds_since

if TYPE_CHECKING:
    from gatewayd.link.base import Link

# A board that resets when its port is opened needs up to 3 s before it answers.
PATIENCE_S = 5.0
# A device that was just told to listen does.
WOKEN_PATIENCE_S = 2.0
# Before a radio is asked again for a device that restarts: its stack, and ours, need a moment.
RECONNECT_POLL_S = 1.0


class DeviceContact:
    """See the module's text. `job` returns the attempt's job as it was stored last; None for a probe."""

    def __init__(
        self,
        deps: Dependencies,
        settings: Settings,
        device: Device,
        *,
        job: Callable[[], Job | None],
        log: FilteringBoundLogger,
        on_notice: Callable[[Event], None],
    ) -> None:
        self.session: TransferSession | None = None
        self._deps = deps
        self._settings = settings
        self._device = device
        self._job = job
        self._log = log
        self._on_notice = on_notice
        self._pump: Pump
        self._link: Link
        self._rival: str | None = None  # None: not looked for yet

    @property
    def due(self) -> float | None:
        """When something must happen next, while an operation is under way."""
        return None if self.session is None else self._pump.due

    @property
    def peer(self) -> str | None:
        """Where the link leads; see Link."""
        return self._link.peer

    def open(self) -> Pump:
        """Return what opens the link on entry and closes it on exit. Raises LinkError `port_shared`."""
        check_port_is_not_shared(self._settings, self._device)
        session = self.session = self._deps.make_session(self._device)
        self._link = self._deps.make_link(self._device)
        self._expect()
        self._pump = Pump(self._link, session, clock=self._deps.clock, on_notice=self._on_notice)
        return self._pump

    async def make(self) -> DeviceInfo:
        """Greet the device; pass over others that fit what the configuration says of its link."""
        while True:
            try:
                return await self._greet()
            except DeviceError as error:
                self._pass_over(error)
                stranger = error
            try:
                await self._reopen()
            except LinkError as error:
                is_begun = stranger.code == Code.DEVICE_CHANGED
                raise (stranger if error.code == Code.NOT_HEARD and not is_begun else error) from None

    async def stay_quiet(self) -> None:
        """Send nothing yet if a previous run may have told the device to restart just now."""
        job, session = self._job(), self.session
        if job is None or session is None or not (job.is_armed and job.activated_at):
            return
        left_s = session.quiet_s - seconds_since(job.activated_at)
        await asyncio.sleep(min(max(left_s, 0.0), session.quiet_s))

    async def renew(self, deadline: float) -> DeviceInfo:
        """Greet a device that restarts; a link that goes down with it is opened again until the deadline."""
        while True:
            try:
                return await self._greet(max(deadline - self._pump.now, PATIENCE_S))
            except LinkLost:
                if not self._pump.vanishes_with_device:
                    raise
            except DeviceError as error:
                self._pass_over(error)
            await self._reconnect(deadline)

    async def identify(self, patience_s: float) -> DeviceInfo:
        """Identify the device, check that it is the one, and remember it. Raises GatewaydError, Deferral."""
        self._pump.session.identify(self._pump.now, patience_s)
        info: DeviceInfo = (await self.outcome(Identified)).info
        device = self._device
        check_is_meant(self._settings, device, info)
        job = self._job()
        if job is not None:
            check_is_begun_with(device, job, info, self._link.peer)
        await self._deps.store.run(lambda db: db.save_contact(device.name, info))
        self._deps.watcher.device_seen(device, info)
        await self._look_for_rival()
        return info

    async def outcome(self, *wanted: type[Any]) -> Any:
        """Return how the operation under way ends, if as wanted. Raises GatewaydError, Deferral."""
        outcome: Outcome = await self._pump.outcome()
        if isinstance(outcome, Failed):
            await self._explain(outcome.error)
            raise outcome.error
        if isinstance(outcome, Deferred):
            raise Deferral(outcome.seconds, outcome.reason)
        if not isinstance(outcome, wanted):
            raise DeviceError(f"the session ended with {outcome}, expected {wanted}", code="internal")
        return outcome

    async def _reconnect(self, deadline: float) -> None:
        while True:
            await asyncio.sleep(RECONNECT_POLL_S)
            try:
                check_port_is_not_shared(self._settings, self._device)  # it may come back under another name
                return await self._reopen()
            except LinkError:
                if self._pump.now >= deadline:
                    raise

    async def _explain(self, error: GatewaydError) -> None:
        """Give silence, and a transfer that makes no progress, the cause that the link knows."""
        is_silence = meaning(error.code).is_silence
        if not (is_silence or error.code == Code.STALLED):
            return
        rival = await self._link.rival()
        if is_silence:
            error.code = Code.PORT_CONTESTED if rival else self._link.silence_code or error.code
        more = contested(rival) if rival else self._link.silence_hint if is_silence else ""
        error.hint = "; ".join(filter(None, (error.hint, more)))

    async def _look_for_rival(self) -> None:
        """Name another program that takes bytes from the line; the device may answer even so."""
        if self._rival is None:
            self._rival = await self._link.rival()
            if self._rival:
                reason = contested(self._rival)
                self._log.warning("the port is contested", code="port_contested", reason=reason)
        if self._rival:
            self._deps.watcher.line_contested(self._device, contested(self._rival))

    async def _reopen(self) -> None:
        session = self.session = self._deps.make_session(self._device)
        self._expect()
        await self._pump.reopen(session)

    def _expect(self) -> None:
        """Tell the link which of several devices the job began with.

        At another address only its id, or the image that it was told to start, can show that it is the one.
        """
        job = self._job()
        if job is not None:
            can_tell = job.device_id is not None or job.state is JobState.ACTIVATING
            self._link.expect(job.peer, only=not can_tell)

    def _pass_over(self, error: DeviceError) -> None:
        """Leave a device aside that is not the one; raise `error` when it is, or there is no other."""
        if meaning(error.code).contact is not Contact.STRANGER or not self._link.pass_over():
            raise error
        self._log.info("passed over another device", code=error.code, reason=str(error))

    async def _greet(self, patience_s: float = PATIENCE_S) -> DeviceInfo:
        """Wake the device if it must be woken, and identify it.

        One that is awake already does not answer the wake-up.
        """
        exchange = self._device.link.wake
        if not isinstance(exchange, Wake):
            return await self.identify(patience_s)
        asleep: LinkError | None = None
        deadline = self._pump.now + patience_s
        while True:
            try:
                await self._pump.wake(exchange)
            except LinkLost:
                raise
            except LinkError as error:
                asleep = error
            try:
                return await self.identify(WOKEN_PATIENCE_S)
            except LinkError as error:
                if not meaning(error.code).is_silence or self._pump.now >= deadline:
                    raise asleep or error from None


def contested(rival: str) -> str:
    """Say what another program on the line does, and how to end it."""
    return (
        f"{rival} has the port open, too, and takes part of what the device sends: end it (a login on a"
        " serial console: `systemctl disable --now serial-getty@PORT`)"
    )
