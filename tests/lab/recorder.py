"""Makes a history (see lab/history.py) of what the witnesses left: logs, store, and the flash of devices.

One `Witnesses.look` for each life of the daemon, after its end: what is new in the logs, then the store.
Within a life the daemon's commits stand before what the broker heard, since the clocks of two logs do not
tell which of two was first; a crash between the two does.
"""

import hashlib
import json
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from gatewayd.jobs.eligibility import is_pushed, push_topic
from lab.history import (
    Acknowledged,
    Activated,
    Answered,
    Committed,
    DeviceCommitted,
    Event,
    Found,
    Looked,
    Published,
    Sent,
    StoredJob,
)

SENT_TO = re.compile(r"Sending PUBLISH to (\S+) \(d\d, q1, r\d, m(\d+), '(.*)', \.\.\. \((\d+) bytes\)\)")
# What the gateway tells itself, to see whether the broker remembers. No firmware, so nothing is committed.
MARKER = "/marker"
PUBACK_FROM = re.compile(r"Received PUBACK from (\S+) \(Mid: (\d+), RC:0\)")
COMMITTED = ("release stored", "release is already here")
# What the C receiver's host says in its log, as the event that it is.
DEVICE_LINES: dict[str, type[Sent | DeviceCommitted | Activated]] = {
    r"offer of ([\d.]+), \d+ bytes": Sent,
    r"activates ([\d.]+)": DeviceCommitted,
    r"starts ([\d.]+) on trial.*": Activated,
}
# Far beyond what a broker needs to notice a closed connection.
NOTICE_LIMIT_S = 60.0


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Tail:
    """A log that is read on from where it was left."""

    path: Path
    at: int = 0

    @classmethod
    def at_end(cls, path: Path) -> Self:
        """Begin with what comes from now on."""
        return cls(path, path.stat().st_size if path.exists() else 0)

    def lines(self) -> list[str]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self.at)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self.at += len(whole)
        return whole.decode(errors="replace").splitlines()


@dataclass
class DeviceFiles:
    """Where a virtual device keeps its log and its flash."""

    log: Tail
    state: Path


@dataclass
class Witnesses:
    """Everybody who saw something of one gateway."""

    client_id: str
    state_dir: Path
    daemon_log: Tail
    broker_log: Tail
    devices: dict[str, DeviceFiles]
    history: list[Event] = field(default_factory=list)
    _in_flight: dict[int, tuple[str, int]] = field(default_factory=dict)
    sizes: dict[tuple[str, int], str] = field(default_factory=dict)
    _connections: int = 0
    _answers: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._doorman = Tail(self.broker_log.path, self.broker_log.at)

    def remember(self, other: "Witnesses") -> None:
        """Begin with what others saw of the gateway that this one is a copy of."""
        self.history += other.history
        self.sizes |= other.sizes

    def published(self, topic: str, message: bytes, version: str, image: bytes, *devices: str) -> None:
        """Note a message that the broker has confirmed to its publisher. Sizes tell messages apart."""
        sha256 = sha256_of(message)
        self.sizes[topic, len(message)] = sha256
        self.history.append(
            Published(sha256, topic, version, sha256_of(image), frozenset(devices), is_pushed(topic))
        )

    def acknowledged(self, message: str) -> None:
        """Note that a person was told that a push is taken."""
        self._answers.append(Acknowledged(message))

    def answered(self, answer: Answered) -> None:
        """Note what a person was told."""
        self._answers.append(answer)

    def look(self) -> None:
        """Take down what one life of the daemon left; it has ended, and the broker has noticed."""
        self.history += [*self._commits(), *self._acknowledgements(), *self._answers, *self._on_devices()]
        self._answers.clear()
        if (seen := look_into(self.state_dir)) is not None:
            self.history.append(seen)

    def conclude(self) -> None:
        """Take down what the devices run; nothing comes after that."""
        for name, files in self.devices.items():
            active = files.state / "active.bin"
            version = json.loads((files.state / "device.json").read_text())["version"]
            image = sha256_of(active.read_bytes()) if active.exists() else ""
            self.history.append(Found(name, version, image))

    def await_disconnect(self) -> None:
        """Return when the broker has noticed the end of each connection of the gateway."""
        came, gone = f" as {self.client_id} (", f"Client {self.client_id} "
        limit = time.monotonic() + NOTICE_LIMIT_S
        while time.monotonic() < limit:
            for line in self._doorman.lines():
                self._connections += (came in line) - (gone in line)
            if self._connections <= 0:
                return
            time.sleep(0.005)  # the other side is another process with nothing but a log
        raise TimeoutError(f"the broker still believes in {self.client_id}")

    def broker_stopped(self) -> None:
        """Note that the broker is gone, and each connection with it."""
        self._doorman.lines()
        self._connections = 0

    def await_acknowledged(self) -> None:
        """Return when the broker has an acknowledgement for each message given to it for the gateway."""
        given = sum(isinstance(event, Published) and not is_pushed(event.topic) for event in self.history)
        had = sum(isinstance(event, Acknowledged) for event in self.history)
        log = Tail(self.broker_log.path, self.broker_log.at)
        limit = time.monotonic() + NOTICE_LIMIT_S
        own = {str(mid) for mid, (topic, _) in self._in_flight.items() if topic.endswith(MARKER)}
        while had < given:
            if time.monotonic() > limit:
                raise TimeoutError(f"{self.client_id} acknowledged {had} of {given}")
            for line in log.lines():
                if (sent := SENT_TO.search(line)) and sent[1] == self.client_id:
                    (own.add if sent[3].endswith(MARKER) else own.discard)(sent[2])
                elif (puback := PUBACK_FROM.search(line)) and puback[1] == self.client_id:
                    had += puback[2] not in own
            time.sleep(0.002)

    def _commits(self) -> Iterator[Event]:
        for line in self.daemon_log.lines():
            entry = json.loads(line) if line.startswith("{") else {}
            if entry.get("event") in COMMITTED:
                yield Committed(self._name(entry["topic"], entry["size_bytes"]))
            elif entry.get("event") == "pushed":
                yield Committed(self._name(push_topic(entry["device"]), entry["size_bytes"]))

    def _acknowledgements(self) -> Iterator[Event]:
        for line in self.broker_log.lines():
            if (sent := SENT_TO.search(line)) and sent[1] == self.client_id:
                self._in_flight[int(sent[2])] = (sent[3], int(sent[4]))
            elif (puback := PUBACK_FROM.search(line)) and puback[1] == self.client_id:
                topic, size_bytes = self._in_flight[int(puback[2])]
                if not topic.endswith(MARKER):
                    yield Acknowledged(self._name(topic, size_bytes))

    def _on_devices(self) -> Iterator[Event]:
        for name, files in self.devices.items():
            for line in files.log.lines():
                for words, kind in DEVICE_LINES.items():
                    if match := re.fullmatch(words, line):
                        yield kind(name, match[1])

    def _name(self, topic: str, size_bytes: int) -> str:
        """Say which message it is; one that nobody published gets a name that fits nothing."""
        return self.sizes.get((topic, size_bytes), f"{size_bytes} bytes on {topic}")


def look_into(state_dir: Path) -> Looked | None:
    """Read a copy of the store, so that nothing in it changes by being looked at.

    None: its database is damaged, and nothing has taken its place yet.
    """
    rebuilt = state_dir / "gatewayd.db.rebuilt"
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("",) if rebuilt.exists() else ("", "-wal", "-journal"):
            file = rebuilt if rebuilt.exists() else state_dir / f"gatewayd.db{suffix}"
            if file.exists():
                shutil.copyfile(file, Path(folder) / f"gatewayd.db{suffix}")
        with closing(sqlite3.connect(Path(folder) / "gatewayd.db")) as database:
            try:
                seen = _look(database)
            except sqlite3.DatabaseError:
                return None
    is_replaced = rebuilt.exists() or (state_dir / "quarantine").exists()
    messages = frozenset(name for name in seen.messages if _is_whole(state_dir / "spool" / name))
    return replace(seen, messages=messages, is_replaced=is_replaced)


def _look(database: sqlite3.Connection) -> Looked:
    if database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise sqlite3.DatabaseError("damaged")
    if not database.execute("SELECT * FROM sqlite_master WHERE name = 'jobs'").fetchone():
        return Looked(frozenset(), ())
    rows = database.execute(
        "SELECT id, device, message_sha256, version, state, code, image_sha256 FROM jobs ORDER BY id"
    )
    jobs = tuple(StoredJob(*row) for row in rows)
    marks = database.execute(
        "SELECT name, mark_timestamp_ms FROM devices WHERE mark_timestamp_ms IS NOT NULL"
        " UNION SELECT app_id || '/' || kind || '/' || board, timestamp_ms FROM marks"
    )
    return Looked(
        frozenset(row[0] for row in database.execute("SELECT sha256 FROM releases")),
        jobs,
        frozenset((name, int(timestamp_ms)) for name, timestamp_ms in marks),
        frozenset(row[0] for row in database.execute("SELECT name FROM pauses")),
    )


def _is_whole(file: Path) -> bool:
    return file.exists() and sha256_of(file.read_bytes()) == file.name
