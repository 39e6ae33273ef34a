"""A real Prometheus that scrapes the pages of gateways, and answers what a dashboard asks."""

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from lab.brokers import free_port

DEADLINE_S = 120.0
Labels = frozenset[tuple[str, str]]
# Of where something was scraped; all else is of the metric.
_TARGET = {"__name__", "job", "instance"}


class Prometheus:
    """The server's process in a folder of its own, on a free port of loopback."""

    def __init__(self, folder: Path, targets: list[str]) -> None:
        self._folder = folder
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        jobs = [{"job_name": "gatewayd", "static_configs": [{"targets": targets}]}]
        # Longer than a second, and a busy machine would miss none of them.
        settings = {"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("prometheus")
        assert program, "prometheus is missing: apt install prometheus"
        words = [
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen([program, *words], stdout=log, stderr=log)
        self.until(self._is_ready, "Prometheus is ready")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(DEADLINE_S)

    def api(self, path: str, **words: str) -> Any:
        """Ask its API. Raises AssertionError with what it has against the query."""
        address = f"{self.address}/api/v1/{path}?{urllib.parse.urlencode(words)}"
        try:
            with urllib.request.urlopen(address, timeout=DEADLINE_S) as answer:  # noqa: S310 - always http
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{words}: {error.read().decode()}") from error

    def query(self, expression: str, at: float | None = None) -> dict[Labels, float]:
        """Return the value by labels, without those of the target."""
        when = {} if at is None else {"time": f"{at:.3f}"}
        data = self.api("query", query=expression, **when)
        assert data["resultType"] == "vector", expression
        found = {labels(one["metric"]): float(one["value"][1]) for one in data["result"]}
        assert len(found) == len(data["result"]), "only the target tells them apart"
        return found

    def targets(self) -> dict[str, str]:
        """Return the health of each target: `up`, `down` or `unknown`."""
        return {one["labels"]["instance"]: one["health"] for one in self.api("targets")["activeTargets"]}

    def until(self, reached: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not reached():
            assert self._process is None or self._process.poll() is None, self._log()
            assert time.monotonic() < deadline, f"waited in vain for {what}\n{self._log()}"
            time.sleep(0.05)

    def until_scraped(self) -> float:
        """Wait until each target was scraped after this moment; return when the last of them was."""
        since = time.time()
        found: dict[Labels, float] = {}

        def is_newer() -> bool:
            found.update(self.query("min(timestamp(up)) > 0"))
            return bool(found) and min(found.values()) > since

        self.until(is_newer, "another scrape")
        return self.query("max(timestamp(up))")[frozenset()]

    def _is_ready(self) -> bool:
        try:
            ready = f"{self.address}/-/ready"
            with urllib.request.urlopen(ready, timeout=DEADLINE_S) as answer:  # noqa: S310 - always http
                return bool(answer.status == 200)
        except OSError:
            return False

    def _log(self) -> str:
        return (self._folder / "prometheus.log").read_text()[-3000:]


def labels(named: Mapping[str, str]) -> Labels:
    """What tells one series from another, wherever it was scraped."""
    return frozenset((name, text) for name, text in named.items() if name not in _TARGET)


@contextmanager
def a_prometheus(folder: Path, targets: list[str]) -> Iterator[Prometheus]:
    """Start it, until it has scraped each target."""
    folder.mkdir()
    server = Prometheus(folder, targets)
    server.start()
    try:
        server.until(lambda: set(server.targets().values()) == {"up"}, "all targets are up")
        yield server
    finally:
        server.stop()
