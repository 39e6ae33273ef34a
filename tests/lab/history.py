"""The judge of everything that is promised about durability: a history goes in, violations come out. Pure.

A history is what independent witnesses saw, in order: the publisher, the broker's log (what the gateway
acknowledged), the store looked into while no daemon ran, each device's own log and flash. What the daemon
logs counts for one thing only, the moment at which it says that it has committed.

    rule                 what must never be
    early_ack            acknowledged, and not said to be committed before
    lost                 acknowledged, and then neither in the store nor replaced; or in the end neither run
                         by its device nor ended with a code; an order that a person was told is carried out;
                         an anti-rollback mark, a pause, a withdrawal
    doubled              a second job for what one succeeded in, or two under way for one device; an image
                         that a device was told to start twice
    wrong_image          something sent to a device, or run by it, that was never published for it
    unexplained          a job that ended otherwise than well and has no code
    false_success        a job that succeeded, of whose image the device knows nothing
    suspended            suspended though nobody emptied the topic, whatever the broker forgot; or offered to
                         a device, or run by it for the first time, while suspended
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

ENDED_BADLY = frozenset({"failed", "cancelled", "superseded"})
ENDED = ENDED_BADLY | {"succeeded"}


@dataclass(frozen=True, slots=True)
class Published:
    """The publisher holds the broker's word for a message. `message` and `image` are SHA-256 in hex.

    `is_order`: a person pushed it, and it need not be kept once it is carried out.
    """

    message: str
    topic: str
    version: str
    image: str
    devices: frozenset[str]
    is_order: bool = False


@dataclass(frozen=True, slots=True)
class Committed:
    """The daemon says that a message is durable."""

    message: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The broker got the gateway's PUBACK and has forgotten the message."""

    message: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A person was told that an order is carried out: the job is in one of these states from then on."""

    job: int
    states: frozenset[str]


@dataclass(frozen=True, slots=True)
class Sent:
    """A device was offered a version, and `size_bytes` of it."""

    device: str
    version: str


@dataclass(frozen=True, slots=True)
class DeviceCommitted:
    """A device has a whole image in flash and was told to start it."""

    device: str
    version: str


@dataclass(frozen=True, slots=True)
class Activated:
    """A device's bootloader started an image for the first time."""

    device: str
    version: str


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job as it stands in the store. `image` is empty before the first transfer."""

    id: int
    device: str
    message: str
    version: str
    state: str
    code: str
    image: str


@dataclass(frozen=True, slots=True)
class Looked:
    """The store, while no daemon ran: the messages of its releases, its jobs, and what must outlive damage.

    `marks`: the anti-rollback mark of each device; `pauses`: what is paused. `is_replaced`: the database had
    been damaged, and this is the one that took its place, which has no jobs.
    """

    messages: frozenset[str]
    jobs: tuple[StoredJob, ...]
    marks: frozenset[tuple[str, int]] = frozenset()
    pauses: frozenset[str] = frozenset()
    is_replaced: bool = False


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The daemon says that a topic has no release any more."""

    topic: str


@dataclass(frozen=True, slots=True)
class Emptied:
    """Somebody emptied a topic's retained message; whether the gateway heard of it is not said."""

    topic: str


@dataclass(frozen=True, slots=True)
class Suspended:
    """The daemon says that the broker has a topic's releases no longer."""

    topic: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """A person was told that a pause is over."""

    name: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a device runs when all is over. `image` is empty when it still runs what it came with."""

    device: str
    version: str
    image: str


Event = (
    Published
    | Committed
    | Acknowledged
    | Withdrawn
    | Emptied
    | Suspended
    | Answered
    | Resumed
    | Sent
    | DeviceCommitted
    | Activated
    | Looked
    | Found
)
History = Sequence[Event]


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken, by the name of its rule."""

    rule: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.what}"


def judge(history: History) -> list[Violation]:
    """Return every violation in a history. One that has no `Found` is not over: nothing is due in it yet."""
    rules = (
        _early_acks,
        _losses,
        _lost_orders,
        _lost_marks_and_pauses,
        _unfinished,
        _doubles,
        _wrong_images,
        _unexplained,
        _false_successes,
        _suspensions,
    )
    return [violation for rule in rules for violation in rule(history)]


def _early_acks(history: History) -> Iterator[Violation]:
    committed: set[str] = set()
    for event in history:
        if isinstance(event, Committed):
            committed.add(event.message)
        elif isinstance(event, Acknowledged) and event.message not in committed:
            yield Violation("early_ack", f"{event.message[:8]} was acknowledged before its commit")


def _losses(history: History) -> Iterator[Violation]:
    """What was acknowledged is in the store, for as long as nothing newer has taken its topic."""
    topics = {event.message: event.topic for event in history if isinstance(event, Published)}
    orders = {event.message for event in history if isinstance(event, Published) and event.is_order}
    newest: dict[str, str] = {}
    acknowledged: set[str] = set()
    withdrawn: set[str] = set()
    for event in history:
        if isinstance(event, Acknowledged | Committed):
            newest[topics.get(event.message, event.message)] = event.message
            withdrawn.discard(topics.get(event.message, event.message))
        if isinstance(event, Withdrawn):
            newest.pop(event.topic, None)
            withdrawn.add(event.topic)
        if isinstance(event, Acknowledged):
            acknowledged.add(event.message)
        elif isinstance(event, Looked):
            for message, topic in topics.items():
                if topic in withdrawn and message in event.messages:
                    yield Violation("lost", f"the withdrawal of {message[:8]} was forgotten")
            carried_out = {job.message for job in event.jobs if job.state in ENDED - {"failed"}} & orders
            for message in sorted(acknowledged & set(newest.values()) - event.messages - carried_out):
                yield Violation("lost", f"{message[:8]} was acknowledged and is not in the store")


def _lost_orders(history: History) -> Iterator[Violation]:
    told: dict[int, frozenset[str]] = {}
    for event in history:
        if isinstance(event, Answered):
            told[event.job] = event.states
        elif isinstance(event, Looked) and event.is_replaced:
            told.clear()
        elif isinstance(event, Looked):
            states = {job.id: job.state for job in event.jobs}
            for job in [job for job, allowed in told.items() if states.get(job) not in allowed]:
                del told[job]  # once is enough
                yield Violation("lost", f"an order about job {job} was answered; it is {states.get(job)}")


def _lost_marks_and_pauses(history: History) -> Iterator[Violation]:
    """A mark never goes back, and a pause stands until a person ends it."""
    marks: dict[str, int] = {}
    pauses: set[str] = set()
    for event in history:
        if isinstance(event, Resumed):
            pauses.discard(event.name)
        if not isinstance(event, Looked):
            continue
        found = dict(event.marks)
        for device in [one for one, mark in marks.items() if found.get(one, -1) < mark]:
            what = f"{found.get(device, 'gone')}, and was {marks.pop(device)}"
            yield Violation("lost", f"the anti-rollback mark of {device} is {what}")
        for name in sorted(pauses - event.pauses):
            yield Violation("lost", f"{name} was paused and is not any more")
        marks |= found
        pauses = set(event.pauses)


def _unfinished(history: History) -> Iterator[Violation]:
    """In the end each device runs the highest that was acknowledged for it, or a job's code says why not."""
    found = {event.device: event for event in history if isinstance(event, Found)}
    looked = [event for event in history if isinstance(event, Looked)]
    jobs = looked[-1].jobs if looked else ()
    suspended = suspended_in(history)
    for device, newest in _highest_for(history).items():
        if newest.topic in suspended:
            continue
        if device not in found or found[device].image == newest.image:
            continue
        mine = [job for job in jobs if (job.device, job.message) == (device, newest.message)]
        if not mine or mine[-1].state not in ENDED:
            what = f"{newest.version} was acknowledged for {device}, which runs {found[device].version}"
            yield Violation("lost", f"{what}; its job is {mine[-1].state if mine else 'not there'}")


def _highest_for(history: History) -> dict[str, Published]:
    published = {event.message: event for event in history if isinstance(event, Published)}
    newest: dict[str, Published] = {}
    for event in history:
        if isinstance(event, Acknowledged) and event.message in published:
            message = published[event.message]
            for device in message.devices:
                newest[device] = max(
                    newest.get(device, message), message, key=lambda one: _order(one.version)
                )
    return newest


def _order(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _doubles(history: History) -> Iterator[Violation]:
    told: set[str] = set()
    for looked in (event for event in history if isinstance(event, Looked)):
        told |= {what for what in _doubled_jobs(looked.jobs) if what not in told}
    yield from (Violation("doubled", what) for what in sorted(told))
    latest: dict[str, str] = {}
    for event in history:
        if isinstance(event, Activated):
            if latest.get(event.device) == event.version:
                yield Violation("doubled", f"{event.device} was made to start {event.version} twice")
            latest[event.device] = event.version


def _doubled_jobs(jobs: Sequence[StoredJob]) -> Iterator[str]:
    under_way = Counter(job.device for job in jobs if job.state not in ENDED)
    yield from (f"{device} has {count} jobs under way" for device, count in under_way.items() if count > 1)
    done: set[tuple[str, str]] = set()
    for job in jobs:
        if (job.device, job.message) in done:
            yield f"job {job.id} for {job.device} does {job.version} again"
        if job.state == "succeeded":
            done.add((job.device, job.message))


def _wrong_images(history: History) -> Iterator[Violation]:
    versions: set[tuple[str, str]] = set()
    images: set[tuple[str, str]] = set()
    for event in history:
        match event:
            case Published():
                versions |= {(device, event.version) for device in event.devices}
                images |= {(device, event.image) for device in event.devices}
            case Sent() | DeviceCommitted() | Activated() if (event.device, event.version) not in versions:
                what = f"{event.device}: {type(event).__name__} {event.version}, never published for it"
                yield Violation("wrong_image", what)
            case Found() if event.image and (event.device, event.image) not in images:
                yield Violation(
                    "wrong_image", f"{event.device} runs {event.image[:8]}, never published for it"
                )
            case Looked():
                for job in event.jobs:
                    if job.image and (job.device, job.image) not in images:
                        yield Violation("wrong_image", f"job {job.id} for {job.device} sends {job.image[:8]}")


def _unexplained(history: History) -> Iterator[Violation]:
    told: set[int] = set()
    for looked in (event for event in history if isinstance(event, Looked)):
        for job in looked.jobs:
            if job.state in ENDED_BADLY and not job.code and job.id not in told:
                told.add(job.id)
                yield Violation("unexplained", f"job {job.id} for {job.device} {job.state} without a code")


def _false_successes(history: History) -> Iterator[Violation]:
    known: set[tuple[str, str]] = set()
    for event in history:
        if isinstance(event, Activated):
            known.add((event.device, event.version))
        elif isinstance(event, Looked):
            for job in event.jobs:
                if job.state == "succeeded" and (job.device, job.version) not in known:
                    what = f"job {job.id} succeeded and {job.device} never started {job.version}"
                    yield Violation("false_success", what)


def suspended_in(history: History) -> set[str]:
    """Return the topics whose releases are suspended in the end."""
    suspended: set[str] = set()
    for event in history:
        match event:
            case Suspended():
                suspended.add(event.topic)
            case Published() | Withdrawn():
                suspended.discard(event.topic)
            case _:
                pass
    return suspended


def _suspensions(history: History) -> Iterator[Violation]:
    emptied: set[str] = set()
    for number, event in enumerate(history):
        match event:
            case Emptied():
                emptied.add(event.topic)
            case Published():
                emptied.discard(event.topic)
            case Suspended() if event.topic not in emptied:
                yield Violation("suspended", f"{event.topic} was suspended, and nobody emptied it")
            case Sent() | Activated():
                before = history[:number]
                topics = {
                    one.topic
                    for one in before
                    if isinstance(one, Published)
                    and event.device in one.devices
                    and one.version == event.version
                }
                if topics and topics <= suspended_in(before):
                    what = f"{event.device} got {event.version} while that was suspended"
                    yield Violation("suspended", what)
            case _:
                pass
