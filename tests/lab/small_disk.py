"""A disk that fills up, or turns read-only, below a daemon's state directory."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.desk import Desk

DISK_BYTES = 4 * 1024 * 1024


class SmallDisk:
    """A tmpfs that only the daemon of a desk sees; its processes' view leads to it."""

    def __init__(self, whole: Desk, options: str = f"size={DISK_BYTES}") -> None:
        self._whole = whole
        self._options = options
        (whole.folder / "state").mkdir()

    def start(self) -> None:
        self.launch()
        self._whole.until(self._whole.answers, "the daemon answers")

    def launch(self, before: str = "true") -> None:
        """Start the daemon with the disk below its state directory; first run `before` in a shell."""
        whole = self._whole
        whole.write()
        mount = f"mount -t tmpfs -o {self._options},mode=0700 none {whole.folder / 'state'}"
        daemon = f"{sys.executable} -m gatewayd.cli.daemon --config config.yaml --verbose"
        unshare = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--mount", "--map-root-user"]
        with (whole.folder / "gatewayd.log").open("ab") as log:
            whole.gateway.process = subprocess.Popen(
                [*unshare, "sh", "-c", f"{mount} && {before} && exec {daemon}"],
                cwd=whole.folder,
                stdout=log,
                stderr=log,
            )

    def remount(self, options: str) -> None:
        process = self._whole.gateway.process
        assert process is not None
        namespaces = ["--mount"] if os.getuid() == 0 else ["--user", "--mount", "--preserve-credentials"]
        command = ["nsenter", "-t", str(process.pid), *namespaces]
        path = str(self._whole.folder / "state")
        subprocess.run([*command, "mount", "-o", f"remount,{options}", path], check=True)

    @property
    def root(self) -> Path:
        assert self._whole.gateway.process is not None
        return Path(f"/proc/{self._whole.gateway.process.pid}/root{self._whole.folder}/state")

    @contextmanager
    def filled(self) -> Iterator[None]:
        """Leave nothing free, meanwhile."""
        filler = self.root / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        yield
        filler.unlink()
