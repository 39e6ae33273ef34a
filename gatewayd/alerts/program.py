"""Runs the program that tells a person: directly, never through a shell, and not for longer than it may."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

import structlog

from gatewayd.errors import ConfigError

log = structlog.get_logger()

# What systemd tells this process and no other.
_OURS = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID"}


class Ending(Enum):
    """How a run ended."""

    DONE = auto()
    FAILED = auto()
    TIMED_OUT = auto()  # nobody knows whether it told


@dataclass(frozen=True, slots=True)
class Program:
    """A program, without arguments, and the seconds it may take."""

    path: Path
    limit_s: float

    def check(self) -> None:
        """Raise ConfigError unless it can be run."""
        if not self.path.exists():
            raise ConfigError(
                f"--run {self.path}: there is no such file", hint="docs/notify.md has two to copy"
            )
        if not self.path.is_file() or not os.access(self.path, os.X_OK):
            hint = f"chmod 755 {self.path}"
            raise ConfigError(f"--run {self.path}: it cannot be executed by this user", hint=hint)

    async def run(self, variables: Mapping[str, str], text: str) -> Ending:
        """Run it with variables in its environment and a text on its standard input."""
        told = {name: value for name, value in os.environ.items() if name not in _OURS}
        try:
            process = await asyncio.create_subprocess_exec(
                self.path,
                env={**told, **variables},
                stdin=asyncio.subprocess.PIPE,
                start_new_session=True,  # what it starts is ended with it
            )
        except OSError as error:
            log.warning("cannot run the program", program=str(self.path), reason=error.strerror or str(error))
            return Ending.FAILED
        try:
            async with asyncio.timeout(self.limit_s):
                await process.communicate(text.encode())
        except TimeoutError:
            log.warning(
                "the program takes too long and is ended", program=str(self.path), limit_s=self.limit_s
            )
            await _end(process)
            return Ending.TIMED_OUT
        if process.returncode:
            log.warning("the program failed", program=str(self.path), exit_code=process.returncode)
            return Ending.FAILED
        return Ending.DONE


async def _end(process: asyncio.subprocess.Process) -> None:
    """End it, and what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
