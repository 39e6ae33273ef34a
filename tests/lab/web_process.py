"""The page's process."""

import re
import signal
import subprocess
import sys
from pathlib import Path

from lab.brokers import free_port


class WebProcess:
    """`gatewayd-web` as a process."""

    def __init__(self, folder: Path, *words: object) -> None:
        self._folder = folder
        self._words = [str(word) for word in words]
        self._process: subprocess.Popen[str] | None = None
        self.address = ""

    @property
    def pid(self) -> int:
        """The process's number, while it runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> str:
        """Start it; once more at the address it had."""
        # Not a port of those that the kernel gives: somebody's outgoing connection may have it after a stop.
        listen = re.sub("http://|/$", "", self.address) or f"127.0.0.1:{free_port()}"
        command = [sys.executable, "-m", "gatewayd.cli.web", "--socket", str(self._folder / "control.sock")]
        self._process = subprocess.Popen(
            [*command, "--listen", listen, *self._words], stderr=subprocess.PIPE, text=True, cwd=self._folder
        )
        assert self._process.stderr is not None
        said = ""
        while not (found := re.search(r"http://\S+", said)):
            line = self._process.stderr.readline()
            assert line, f"it ended: {said}"
            said += line
        self.address = found[0]
        return self.address

    def stop(self, number: int = signal.SIGTERM) -> int | None:
        if self._process is None:
            return None
        if self._process.poll() is None:
            self._process.send_signal(number)
        self._process.communicate(timeout=60)
        return self._process.returncode
