"""A daemon forked from this process, which has imported it already: 0.4 s sooner than a new one.

Its parent must have no threads. A traced one stops itself first, until strace has taken hold of it.
"""

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from lab.strace import attach

from gatewayd.cli.daemon import command

# Far beyond what anything here takes.
LIMIT_S = 120.0


@dataclass
class Daemon:
    """A forked daemon; its log goes to a file, and through a pipe to `until_log`."""

    pid: int
    output: int
    log: Path
    status: int | None = None
    _text: bytes = b""

    @classmethod
    def start(cls, config: Path, log: Path, patch: Callable[[], None] | None, *, stopped: bool) -> "Daemon":
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _become_daemon(config, writing, patch, stopped=stopped)
        os.close(writing)
        if stopped:
            os.waitpid(pid, os.WUNTRACED)
        return cls(pid, reading, log)

    def until_log(self, words: str | None, limit_s: float = LIMIT_S) -> bool:
        """Return once this life's log has `words` in a line; False when it ends without."""
        limit = time.monotonic() + limit_s
        with self.log.open("ab") as file:
            while not (words and re.search(words.encode(), self._text)):
                if not select.select([self.output], [], [], max(limit - time.monotonic(), 0))[0]:
                    raise TimeoutError(f"waited in vain for {words or 'the end'} in {self.log}")
                piece = os.read(self.output, 65536)
                file.write(piece)
                self._text += piece
                if not piece:
                    return False
        return True

    def end(self, number: int = signal.SIGKILL) -> int:
        """Signal it unless it is gone; return its exit status as a shell says it: 137 for SIGKILL."""
        if self.status is None:
            os.kill(self.pid, number)
            return self.wait()
        return self.status

    def wait(self) -> int:
        self.until_log(None)  # to the end; a killed one may leave half a line
        with self.log.open("ab") as file:
            file.write(b"\n")
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.output)
        self.status = 128 - code if code < 0 else code
        return self.status


def _become_daemon(config: Path, output: int, patch: Callable[[], None] | None, *, stopped: bool) -> NoReturn:
    code = 70
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        if patch:
            patch()
        if stopped:
            os.kill(os.getpid(), signal.SIGSTOP)
        command(["--config", str(config)])
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        sys.stderr.flush()
        os._exit(code)


@dataclass(frozen=True)
class Injection:
    """What strace does to a system call on the store's files: `fault` in strace's words, at call `when`."""

    call: str
    fault: str
    when: str


def trace(
    daemon: Daemon, paths: Sequence[Path], calls: Sequence[str], out: Path, injection: Injection | None = None
) -> subprocess.Popen[str]:
    """Attach strace to a stopped daemon and let it go on.

    No --seccomp-bpf: strace 6.1 then does not deliver the signals it is told to inject.
    """
    words = ["-o", str(out), "-e", f"trace={','.join(calls)}"]
    words += [word for path in paths for word in ("-P", str(path))]
    if injection:
        words += ["-e", f"inject={injection.call}:{injection.fault}:when={injection.when}"]
    try:
        strace = attach(daemon.pid, *words)
    except AssertionError:
        daemon.end()  # it would stay stopped for ever
        raise
    os.kill(daemon.pid, signal.SIGCONT)
    return strace
