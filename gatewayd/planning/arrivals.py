"""What a message that arrives is worth, judged before it is stored.

Genuine firmware that is newer than what its topic has, or that a device takes, is always stored. All else
brings nothing new now: what no device takes for genuine, and what is older than the topic's release. A
stranger can publish any amount of that, and SD cards wear. So it is stored only within limits. Beyond them
the message is refused like any other, and remembered with the devices that refused it: when their keys, their
settings or their versions change, the broker is asked for it again.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from gatewayd.allowance import Allowance
from gatewayd.codes import Code
from gatewayd.config import Device, Settings
from gatewayd.errors import FirmwareError, GatewaydError
from gatewayd.images.reader import FirmwareReader
from gatewayd.jobs.eligibility import (
    Candidate,
    installed_version,
    profile_of,
    refusal_of,
    topics_of,
)
from gatewayd.jobs.model import DecodeProfile, DeviceRecord, Release, Verdict
from gatewayd.ota.container import built_at
from gatewayd.ota.topic import OtaTopic
from gatewayd.planning.planner import StoreSnapshot, records_of

# Of messages that bring nothing, for all topics: 0.5 MiB at once and as much an hour, with what the database
# writes for each. Larger ones are never stored.
REFUSED_BYTES_PER_HOUR = 512 * 1024
RECORDS_BYTES = 64 * 1024
# Of genuine messages, whatever their size, that no device takes: one for each topic, unless it had another
# before, and one every four hours.
IDLE, IDLE_PER_HOUR = 1, 0.25

# Of the topic's own container under another version that a device takes: a mistake is corrected at once.
RENUMBERED, RENUMBERED_PER_HOUR = 4, 1


class Worth(IntEnum):
    """What a message brings the devices that follow its topic."""

    NOTHING = 0  # no device takes it for genuine, or the topic has something newer
    IDLE = 1  # genuine, but no device takes it now
    RENUMBERED = 2  # the container that is here, under a version that a device takes: nobody vouches for that
    NEWS = 3


# A device that follows the topic, how it decodes messages, and the version it runs.
Reader = tuple[str, str, str]


class NotKeptError(FirmwareError):
    """A message was refused and is not stored; `readers` are those that were asked."""

    def __init__(self, message: str, *, code: str, hint: str, readers: frozenset[Reader]) -> None:
        super().__init__(message, code=code, hint=hint)
        self.readers = readers


@dataclass(frozen=True, slots=True)
class Arrival:
    """The verdicts on a message, by how it was decoded, what it brings, and why not more."""

    verdicts: Mapping[DecodeProfile, Verdict]
    worth: Worth
    refusal: FirmwareError
    readers: frozenset[Reader]


class Arrivals:
    """Judges messages, and limits what is stored of those that bring nothing."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        known: Callable[[], Awaitable[StoreSnapshot]],
        firmware: FirmwareReader,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._known = known
        self._firmware = firmware
        self._clock = clock
        self._refused = Allowance(REFUSED_BYTES_PER_HOUR, REFUSED_BYTES_PER_HOUR, clock)
        self._limits: dict[tuple[Worth, str], Allowance] = {}

    async def weigh(
        self, topic: OtaTopic, topic_text: str, message: bytes
    ) -> Mapping[DecodeProfile, Verdict]:
        """Return the verdicts to store with the message. Raises NotKeptError, HostError."""
        sha256 = await asyncio.to_thread(lambda: hashlib.sha256(message).hexdigest())
        settings, known = self._settings(), await self._known()
        if _is_here(known, topic_text, sha256):
            self._limit(Worth.IDLE, topic_text).take()
            return {}
        release = _release(topic, topic_text, sha256, len(message))
        arrival = await self._judge(settings, known, release, message)
        if self._may_store(arrival.worth, topic_text, len(message)):
            return arrival.verdicts
        raise NotKeptError(
            arrival.refusal.message,
            code=arrival.refusal.code,
            hint="it is not kept, as too much that is refused came lately; the broker is asked for it again"
            " when keys or devices change, so publish retained",
            readers=arrival.readers,
        )

    def changed(self, known: StoreSnapshot, refused: Mapping[str, GatewaydError]) -> frozenset[str]:
        """Return the topics whose message was not kept, and would be judged otherwise by now."""
        return frozenset(
            topic
            for topic, error in refused.items()
            if isinstance(error, NotKeptError) and error.readers != _readers(self._settings(), known, topic)
        )

    def _may_store(self, worth: Worth, topic_text: str, size_bytes: int) -> bool:
        if worth is Worth.NEWS:
            self._limit(Worth.IDLE, topic_text).take()
            return True
        is_within = worth is not Worth.NOTHING and self._limit(worth, topic_text).take()
        return is_within or self._refused.take(size_bytes + RECORDS_BYTES)

    def _limit(self, worth: Worth, topic_text: str) -> Allowance:
        burst, per_hour = (IDLE, IDLE_PER_HOUR) if worth is Worth.IDLE else (RENUMBERED, RENUMBERED_PER_HOUR)
        return self._limits.setdefault((worth, topic_text), Allowance(burst, per_hour, self._clock))

    async def _judge(
        self, settings: Settings, known: StoreSnapshot, release: Release, message: bytes
    ) -> Arrival:
        readers = _readers(settings, known, release.topic)
        refusals = [FirmwareError("no device follows its topic now", code=Code.NOT_OURS)]
        worth = Worth.NOTHING
        verdicts: dict[DecodeProfile, Verdict] = {}
        for device, record in _followers(settings, known, release.topic):
            profile = profile_of(settings, device)
            if reason := settings.missing_keys(device):
                refusals.append(FirmwareError(reason, code=Code.KEYS_UNUSABLE))
                continue
            if profile not in verdicts:
                verdicts[profile] = await self._firmware.examine(
                    message, release.sha256, profile, settings.keys_of(device)
                )
            found, refusal = _worth(device, record, Candidate(release, verdicts[profile]), known, profile)
            worth = max(worth, found)
            refusals.append(refusal)
            if worth is Worth.NEWS:
                break
        return Arrival(verdicts, worth, refusals[-1], readers)


def _worth(
    device: Device, record: DeviceRecord, candidate: Candidate, known: StoreSnapshot, profile: DecodeProfile
) -> tuple[Worth, FirmwareError]:
    """Return what the message brings this device, and why not more."""
    verdict, topic = candidate.verdict, candidate.release.topic
    if not verdict.is_genuine:
        return Worth.NOTHING, FirmwareError(verdict.reason, code=verdict.code)
    of_topic = [known.verdicts.get((one.sha256, profile.key)) for one in known.releases if one.topic == topic]
    here = [one for one in of_topic if one is not None and one.is_genuine]
    newest = max((one.timestamp_ms or 0 for one in here), default=0)
    at = verdict.timestamp_ms
    if at is not None and at < newest and not device.allow_downgrade:
        reason = f"the container was built at {built_at(at)}, before the topic's release: {built_at(newest)}"
        return Worth.NOTHING, FirmwareError(reason, code=Code.ROLLBACK)
    refusal = refusal_of(device, record, candidate)
    if refusal is not None:
        code = Code.NOT_NEWER if refusal.code == Code.UP_TO_DATE else refusal.code
        return Worth.IDLE, FirmwareError(refusal.reason, code=code)
    container = verdict.container_sha256
    if container and any(one.container_sha256 == container for one in here):
        return Worth.RENUMBERED, FirmwareError("the topic has the same container", code=Code.NOT_NEWER)
    return Worth.NEWS, FirmwareError("")


def _is_here(known: StoreSnapshot, topic_text: str, sha256: str) -> bool:
    last = [one.sha256 for one in known.releases if one.topic == topic_text][-1:]
    return last == [sha256]


def _followers(
    settings: Settings, known: StoreSnapshot, topic_text: str
) -> Iterable[tuple[Device, DeviceRecord]]:
    records, _ = records_of(settings, known)
    for device in settings.devices:
        record = records.get(device.name, DeviceRecord(device.name))
        if topic_text in topics_of(settings, device, record):
            yield device, record


def _readers(settings: Settings, known: StoreSnapshot, topic_text: str) -> frozenset[Reader]:
    return frozenset(
        (device.name, profile_of(settings, device).key, str(installed_version(device, record)))
        for device, record in _followers(settings, known, topic_text)
    )


def _release(topic: OtaTopic, topic_text: str, sha256: str, size_bytes: int) -> Release:
    """Return the release that the message would become."""
    return Release(
        id=0,
        seq=0,
        topic=topic_text,
        app_id=topic.app_id,
        major=topic.major,
        minor=topic.minor,
        channel=topic.channel,
        sha256=sha256,
        size=size_bytes,
        received_at="",
    )
