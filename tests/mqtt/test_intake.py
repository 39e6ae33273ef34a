"""What is refused before the commit, and what reaches the store."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
import structlog
from lab.jobs import standard_reading

from gatewayd.errors import FirmwareError, HostError
from gatewayd.jobs.model import DecodeProfile, Verdict
from gatewayd.mqtt.connection import IncomingMessage
from gatewayd.mqtt.intake import IDLE_LINES, Intake, MessageChecks
from gatewayd.mqtt.router import Router
from gatewayd.ota.topic import Channel, OtaTopic, TopicTemplate
from gatewayd.planning.arrivals import NotKeptError

TOPIC = "/a/pump/u/4.3/s"


@dataclass
class Store:
    releases: dict[str, bytes] = field(default_factory=dict)
    topics: list[OtaTopic] = field(default_factory=list)
    retained: dict[str, bool] = field(default_factory=dict)
    error: Exception | None = None

    async def add_release(
        self,
        topic: OtaTopic,
        topic_text: str,
        payload: bytes,
        verdicts: Mapping[DecodeProfile, Verdict],
        *,
        is_retained: bool,
    ) -> bool:
        assert verdicts
        self.retained[topic_text] = is_retained
        if self.error:
            raise self.error
        self.topics.append(topic)
        changed = self.releases.get(topic_text) != payload
        self.releases[topic_text] = payload
        return changed

    async def withdraw(self, topic_text: str) -> bool:
        return self.releases.pop(topic_text, None) is not None


class Lab:
    def __init__(self) -> None:
        self.store = Store()
        self.changes = 0
        self.signed: set[bytes] = set()
        self.not_kept: set[bytes] = set()
        self.verdict = Verdict()
        intake = Intake(
            self.store,
            max_message_bytes=100,
            on_change=self.count_change,
            checks=MessageChecks(self.is_signed, self.weigh),
        )
        self.router = Router([intake.route(TopicTemplate())])

    async def is_signed(self, _topic: OtaTopic, payload: bytes) -> bool:
        return payload in self.signed

    async def weigh(
        self, _topic: OtaTopic, _topic_text: str, payload: bytes
    ) -> Mapping[DecodeProfile, Verdict]:
        if payload in self.not_kept:
            raise NotKeptError("no", code="bad_signature", hint="", readers=frozenset())
        return {standard_reading(): self.verdict}

    def count_change(self) -> None:
        self.changes += 1

    async def accept(self, payload: bytes, *, topic: str = TOPIC, qos: int = 1, retain: bool = False) -> None:
        await self.router.accept(IncomingMessage(topic, payload, qos, retain))


@pytest.fixture
def lab() -> Lab:
    return Lab()


async def test_a_release_is_stored_and_a_replay_changes_nothing(lab: Lab) -> None:
    await lab.accept(b"image")
    await lab.accept(b"image", retain=True)
    assert lab.store.releases == {TOPIC: b"image"}
    assert lab.store.topics[0] == OtaTopic("pump", 4, 3, Channel.STABLE)
    assert lab.changes == 2  # the first may have been cut off between its commit and telling


@pytest.mark.parametrize("qos", [0, 1])
async def test_an_empty_message_withdraws(lab: Lab, qos: int) -> None:
    await lab.accept(b"image")
    await lab.accept(b"", qos=qos)
    await lab.accept(b"", qos=qos)
    assert not lab.store.releases
    assert lab.changes == 3


@pytest.mark.parametrize(
    ("code", "topic", "size", "qos"),
    [
        ("too_large", TOPIC, 101, 1),
        ("qos0", TOPIC, 100, 0),
        ("not_ours", "/a/pump/u/4", 100, 1),
        ("not_ours", "/a/pump/u/4", 0, 1),
    ],
)
async def test_what_is_refused_does_not_reach_the_store(
    lab: Lab, code: str, topic: str, size: int, qos: int
) -> None:
    with pytest.raises(FirmwareError) as caught:
        await lab.accept(bytes(size), topic=topic, qos=qos)
    assert caught.value.code == code
    assert not lab.store.releases
    assert not lab.changes


async def test_with_qos_0_a_signature_vouches_for_the_message(lab: Lab) -> None:
    lab.signed.add(b"signed")
    with structlog.testing.capture_logs() as log:
        await lab.accept(b"signed", qos=0)
    assert lab.store.releases == {TOPIC: b"signed"}
    assert [line["event"] for line in log if line.get("code") == "qos0"] == [
        "signed firmware came with QoS 0 and is taken"
    ]


async def test_the_largest_message_is_accepted(lab: Lab) -> None:
    await lab.accept(bytes(100))
    assert lab.changes == 1


async def test_trouble_in_the_store_is_not_swallowed(lab: Lab) -> None:
    lab.store.error = HostError("disk full", code="disk_full")
    with pytest.raises(HostError):
        await lab.accept(b"image")
    assert not lab.changes


async def test_what_is_not_to_be_kept_does_not_reach_the_store(lab: Lab) -> None:
    lab.not_kept.add(b"junk")
    with pytest.raises(FirmwareError, match="no") as refused:
        await lab.accept(b"junk")
    assert refused.value.code == "bad_signature"
    assert not lab.store.releases


async def test_the_verdict_is_logged_with_the_release_and_replays_within_a_limit(lab: Lab) -> None:
    with structlog.testing.capture_logs() as log:
        for _ in range(2 * IDLE_LINES):
            await lab.accept(b"image")
        await lab.accept(b"another")
    assert [line["event"] for line in log[:3]] == [
        "release stored",
        "release verified",
        "release is already here",
    ]
    assert len(log) == IDLE_LINES + 4
    assert log[-2]["left_out"] == IDLE_LINES - 1
