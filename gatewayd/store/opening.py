"""Open the store at start-up, waiting for a disk that has trouble."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from gatewayd.codes import meaning
from gatewayd.errors import HostError
from gatewayd.store.store import Store

log = structlog.get_logger()

# Short for a person who has made room, long enough not to strain a failing disk.
DISK_RETRY_S = 20.0


async def open_when_possible(
    state_dir: Path, stop: asyncio.Event, tell: Callable[[str], None]
) -> Store | None:
    """Open the store; while the disk has trouble, wait and `tell` about it. None: `stop` was set meanwhile.

    Raises HostError for what does not pass by itself.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            return await _open_and_recover(state_dir)
        except HostError as error:
            if not meaning(error.code).is_disk:
                raise
            wait_s = min(DISK_RETRY_S, 2.0**attempt)
            log.error("waiting for the disk", code=error.code, reason=str(error), retry_in_s=round(wait_s))  # noqa: TRY400 - not ours
            tell(f"waiting for the disk: {error} ({error.code})")
        try:
            async with asyncio.timeout(wait_s):
                await stop.wait()
        except TimeoutError:
            continue
        return None


async def _open_and_recover(state_dir: Path) -> Store:
    """Open the store and queue interrupted jobs again; this writes, which fails on a full disk."""
    store = Store(state_dir)
    await store.open()
    try:
        for job in await store.run(lambda database: database.recover()):
            log.info("job goes on", device=job.device, job=job.id, version=job.version)
    except BaseException:
        await store.close()
        raise
    return store
