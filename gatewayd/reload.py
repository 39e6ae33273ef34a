"""The configuration is read again, and goes into force without a restart."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict

import structlog

from gatewayd.config import ConfigErrors
from gatewayd.config.changes import Changes, Reloaded, read_again
from gatewayd.config.loader import with_login
from gatewayd.errors import GatewaydError
from gatewayd.mqtt.uplink import Uplink
from gatewayd.planning.reconciler import Reconciler

log = structlog.get_logger()

# Soon enough for a disk that is mounted late or a certificate that is being renewed.
LOOK_AGAIN_S = 5.0


class Reloader:
    """One reload at a time. `on_begin` and `on_end` are called around each, whatever came of it.

    Attributes:
        refusal: why the configuration on disk is not in force; empty when it is, as far as is known.
    """

    def __init__(
        self,
        reconciler: Reconciler,
        uplink: Uplink,
        *,
        on_begin: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        self._reconciler = reconciler
        self._uplink = uplink
        self._on_begin, self._on_end = on_begin, on_end
        self._one_at_a_time = asyncio.Lock()
        self.refusal = ""

    async def run(self, hang_up: asyncio.Event) -> None:
        """Reload each time SIGHUP comes, until cancelled. Nobody waits for an answer, so the log has it."""
        while True:
            await hang_up.wait()
            hang_up.clear()
            try:
                await self.reload()
            except GatewaydError as error:
                for line in str(error).splitlines():
                    log.error("configuration not reloaded", code=error.code, reason=line)  # noqa: TRY400 - it is theirs
            except Exception:  # the last resort: devices are served with the configuration that is in force
                log.exception("this is a defect in gatewayd, please report it")

    async def mend_login(self) -> None:
        """Look again at files for the broker that could not be used at the start, until cancelled.

        Nobody has to: what the machine did not have in time must not want a person.
        """
        while True:
            await asyncio.sleep(LOOK_AGAIN_S)
            if not self._reconciler.settings.mqtt.unusable:
                continue
            async with self._one_at_a_time:
                with suppress(ConfigErrors):
                    new = await asyncio.to_thread(with_login, self._reconciler.settings)
                    await self._reconciler.configure(new)
                    self._uplink.reconnect()
                    log.info("the files for the broker can be used now")

    async def reload(self) -> Reloaded:
        """Read the configuration again; what is not concerned goes on undisturbed.

        Raises ConfigError; then the old one stays in force.
        """
        async with self._one_at_a_time:
            self._on_begin()
            try:
                result = await self._reload()
                self.refusal = ""
            except GatewaydError as error:
                self.refusal = str(error)
                raise
            finally:
                self._on_end()
        return result

    async def _reload(self) -> Reloaded:
        old = self._reconciler.settings
        new = await asyncio.to_thread(read_again, old)
        changes = Changes.between(old, new)
        await self._reconciler.configure(new)
        if changes.mqtt:
            self._uplink.reconnect()
        await self._reconciler.settled()
        self._uplink.wake()
        told = asdict(changes)
        log.info("configuration reloaded", **{key: told[key] for key in told if key != "unchanged"})
        return Reloaded(new, changes)
