"""What the gateway says of itself."""

import json
from datetime import UTC, datetime, timedelta

from lab.jobs import a_device, some_settings

from gatewayd import __version__
from gatewayd.config.revision import revision_of
from gatewayd.errors import GatewaydError, HostError
from gatewayd.status.board import StatusBoard
from gatewayd.status.gateway import (
    REFUSAL_CHARACTERS,
    REFUSAL_LINES,
    GatewayStatusReader,
    shortened,
)

BEGIN = datetime(2026, 11, 28, 8, tzinfo=UTC)


class Desk:
    """A reader, and all that it reads from."""

    def __init__(self) -> None:
        self.settings = some_settings(a_device("pump-1"), a_device("pump-2"))
        self.now = BEGIN
        self.board = StatusBoard(lambda: self.now)
        self.online_since: datetime | None = None
        self.refusal = ""
        self.trouble: GatewaydError | None = None
        self.reader = GatewayStatusReader(
            lambda: self.settings,
            self.board,
            online_since=lambda: self.online_since,
            refusal=lambda: self.refusal,
            trouble=lambda: self.trouble,
            clock=lambda: self.now,
        )

    def later(self) -> None:
        self.now += timedelta(hours=1)


def test_the_document_is_as_documented() -> None:
    desk = Desk()
    desk.board.update("pump-1", state="idle")
    desk.later()
    desk.online_since = desk.now
    desk.trouble = HostError("the disk is full", code="disk_full", hint="free some space")
    desk.refusal = "config.yaml:3: devices: is missing."
    assert json.loads(desk.reader.read().to_bytes()) == {
        "version": __version__,
        "started_at": "2026-11-28T08:00:00Z",
        "online_since": "2026-11-28T09:00:00Z",
        "config_revision": revision_of(desk.settings),
        "config_refused": "config.yaml:3: devices: is missing.",
        "devices": {"idle": 1, "unknown": 1},
        "trouble": {"code": "disk_full", "reason": "the disk is full (free some space)"},
        "updated_at": "2026-11-28T09:00:00.000Z",
    }


def test_where_all_is_well_there_is_null() -> None:
    told = Desk().reader.read().to_json()
    assert (told["online_since"], told["config_refused"], told["trouble"]) == (None, None, None)


def test_the_time_moves_only_with_something_else() -> None:
    desk = Desk()
    desk.trouble = HostError("full", code="disk_full")
    first = desk.reader.read()
    desk.later()
    desk.trouble = HostError("full", code="disk_full")  # it failed again, with the same words
    desk.board.update("pump-1", state="unknown", progress=3)
    assert desk.reader.read() == first
    desk.board.update("pump-1", state="idle")
    assert desk.reader.read().updated_at == desk.now


def test_another_configuration_has_another_revision() -> None:
    desk = Desk()
    first = desk.reader.read()
    desk.settings = some_settings(a_device("pump-1"))
    assert desk.reader.read().config_revision != first.config_revision
    assert desk.reader.read().devices == {"unknown": 1}


def test_a_refusal_is_cut_to_what_a_person_begins_with() -> None:
    assert shortened("") == ""
    assert shortened("one\ntwo") == "one\ntwo"
    many = "\n".join(f"line {number}" for number in range(REFUSAL_LINES + 3))
    assert shortened(many).splitlines()[-2:] == [f"line {REFUSAL_LINES - 1}", "and 3 more"]
    assert len(shortened("x" * 10_000)) == REFUSAL_CHARACTERS
