"""The judge of durability: what it must let pass, and what it must catch."""

from dataclasses import replace

import pytest

from lab.history import (
    Acknowledged,
    Activated,
    Answered,
    Committed,
    DeviceCommitted,
    Emptied,
    Event,
    Found,
    Looked,
    Published,
    Resumed,
    Sent,
    StoredJob,
    Suspended,
    Withdrawn,
    judge,
)

DEVICES = frozenset({"pump-1"})
ONE = Published("m1", "/a/pump/u/4.3", "4.3.2", "i1", DEVICES)
TWO = Published("m2", "/a/pump/u/4.3", "4.3.3", "i2", DEVICES)
JOB = StoredJob(1, "pump-1", "m1", "4.3.2", "succeeded", "", "i1")
WAITS = replace(JOB, state="queued", image="")
ARRIVAL: list[Event] = [ONE, Committed("m1"), Acknowledged("m1")]
DEVICE: list[Event] = [
    Sent("pump-1", "4.3.2"),
    DeviceCommitted("pump-1", "4.3.2"),
    Activated("pump-1", "4.3.2"),
]
END = Found("pump-1", "4.3.2", "i1")
UNTOUCHED = Found("pump-1", "4.3.1", "")


def looked(
    *jobs: StoredJob,
    messages: tuple[str, ...] = ("m1",),
    marks: dict[str, int] | None = None,
    pauses: tuple[str, ...] = (),
    is_replaced: bool = False,
) -> Looked:
    marked = frozenset((marks or {}).items())
    return Looked(frozenset(messages), jobs, marked, frozenset(pauses), is_replaced)


GOOD: dict[str, list[Event]] = {
    "nothing happened": [],
    "a mark that is raised, a pause that a person ended": [
        looked(marks={"pump-1": 7}, pauses=("pump-1",)),
        Resumed("pump-1"),
        looked(marks={"pump-1": 8}),
    ],
    "withdrawn, and published again": [
        *ARRIVAL,
        Withdrawn(ONE.topic),
        looked(messages=()),
        *ARRIVAL[1:],
        looked(),
    ],
    "a withdrawal that nobody announced, and published again": [
        *ARRIVAL,
        Emptied(ONE.topic),
        Suspended(ONE.topic),
        looked(),
        *ARRIVAL,
        *DEVICE,
        looked(JOB),
        END,
    ],
    "suspended, and so not run": [
        *ARRIVAL,
        Emptied(ONE.topic),
        Suspended(ONE.topic),
        looked(),
        UNTOUCHED,
    ],
    "a damaged database that was replaced, with its history": [
        *ARRIVAL,
        Answered(1, frozenset({"succeeded"})),
        *DEVICE,
        looked(is_replaced=True),
        END,
    ],
    "an update": [*ARRIVAL, looked(), *DEVICE, looked(JOB), END],
    "killed before the acknowledgement, delivered again": [
        ONE,
        Committed("m1"),
        looked(),
        Committed("m1"),
        Acknowledged("m1"),
        *DEVICE,
        looked(JOB),
        END,
    ],
    "killed before the commit": [ONE, looked(messages=()), *ARRIVAL[1:], *DEVICE, looked(JOB), END],
    "not acknowledged yet, so the broker has it": [ONE, looked(messages=()), UNTOUCHED],
    "sent again after an interruption": [*ARRIVAL, Sent("pump-1", "4.3.2"), *DEVICE, looked(JOB), END],
    "replaced by a newer one": [
        *ARRIVAL,
        looked(WAITS),
        TWO,
        Committed("m2"),
        Acknowledged("m2"),
        Sent("pump-1", "4.3.3"),
        Activated("pump-1", "4.3.3"),
        looked(
            replace(WAITS, state="superseded", code="superseded"),
            StoredJob(2, "pump-1", "m2", "4.3.3", "succeeded", "", "i2"),
            messages=("m2",),
        ),
        Found("pump-1", "4.3.3", "i2"),
    ],
    "an older one after it, which is not installed": [
        TWO,
        Committed("m2"),
        Acknowledged("m2"),
        *[type(event)("pump-1", "4.3.3") for event in DEVICE if isinstance(event, Sent | Activated)],
        looked(StoredJob(1, "pump-1", "m2", "4.3.3", "succeeded", "", "i2"), messages=("m2",)),
        *ARRIVAL,
        looked(StoredJob(1, "pump-1", "m2", "4.3.3", "succeeded", "", "i2")),
        Found("pump-1", "4.3.3", "i2"),
    ],
    "an order carried out": [
        *ARRIVAL,
        looked(WAITS),
        Answered(1, frozenset({"cancelled"})),
        looked(replace(WAITS, state="cancelled", code="cancelled")),
    ],
    "a push that is carried out": [
        replace(ONE, is_order=True),
        *ARRIVAL[1:],
        *DEVICE,
        looked(JOB, messages=()),
        END,
    ],
    "failed, and says why": [*ARRIVAL, looked(replace(JOB, state="failed", code="stalled")), UNTOUCHED],
    "tried again after a failure": [
        *ARRIVAL,
        *DEVICE,
        looked(replace(JOB, state="failed", code="no_answer"), replace(JOB, id=2)),
        END,
    ],
}
BAD: dict[str, tuple[str, list[Event]]] = {
    "acknowledged without a commit": ("early_ack", [ONE, Acknowledged("m1"), looked()]),
    "acknowledged before the commit": ("early_ack", [ONE, Acknowledged("m1"), Committed("m1"), looked()]),
    "suspended by a broker that lost its memory": (
        "suspended",
        [*ARRIVAL, Suspended(ONE.topic), looked(), UNTOUCHED],
    ),
    "suspended, and its file is gone": (
        "lost",
        [*ARRIVAL, Emptied(ONE.topic), Suspended(ONE.topic), looked(messages=()), UNTOUCHED],
    ),
    "sent while it was suspended": (
        "suspended",
        [*ARRIVAL, Emptied(ONE.topic), Suspended(ONE.topic), *DEVICE[:1], looked(WAITS), UNTOUCHED],
    ),
    "gone after the acknowledgement": ("lost", [*ARRIVAL, looked(messages=())]),
    "said to be committed, acknowledged, and a later look finds nothing": (
        "lost",
        [*ARRIVAL, looked(), looked(messages=())],
    ),
    "an order that was answered and is forgotten": (
        "lost",
        [*ARRIVAL, looked(WAITS), Answered(1, frozenset({"cancelled"})), looked(WAITS)],
    ),
    "a job that an order was about is gone": (
        "lost",
        [*ARRIVAL, looked(WAITS), Answered(1, frozenset({"cancelled"})), looked()],
    ),
    "a push that is not carried out, and gone": (
        "lost",
        [replace(ONE, is_order=True), *ARRIVAL[1:], looked(WAITS, messages=())],
    ),
    "a release that is gone after its update": ("lost", [*ARRIVAL, *DEVICE, looked(JOB, messages=())]),
    "a mark that is gone": ("lost", [looked(marks={"pump-1": 7}), looked()]),
    "a mark that went back": ("lost", [looked(marks={"pump-1": 7}), looked(marks={"pump-1": 6})]),
    "a pause that is gone": ("lost", [looked(pauses=("pump-1",)), looked()]),
    "a withdrawal that is forgotten": ("lost", [*ARRIVAL, Withdrawn(ONE.topic), looked()]),
    "no job in the end": ("lost", [*ARRIVAL, looked(), UNTOUCHED]),
    "a job that still waits in the end": ("lost", [*ARRIVAL, looked(WAITS), UNTOUCHED]),
    "a second job for what is done": ("doubled", [*ARRIVAL, *DEVICE, looked(JOB, replace(WAITS, id=2))]),
    "two jobs under way": ("doubled", [*ARRIVAL, looked(WAITS, replace(WAITS, id=2))]),
    "started twice": ("doubled", [*ARRIVAL, *DEVICE, Activated("pump-1", "4.3.2"), looked(JOB), END]),
    "sent what was never published": ("wrong_image", [*ARRIVAL, Sent("pump-1", "4.3.9")]),
    "sent what is meant for another": ("wrong_image", [*ARRIVAL, Sent("tank-1", "4.3.2")]),
    "sent other bytes under the right version": (
        "wrong_image",
        [*ARRIVAL, looked(replace(WAITS, image="i9"))],
    ),
    "the device runs other bytes": (
        "wrong_image",
        [*ARRIVAL, *DEVICE, looked(JOB), replace(END, image="i9")],
    ),
    "ended without a code": ("unexplained", [*ARRIVAL, looked(replace(JOB, state="failed"))]),
    "superseded without a code": ("unexplained", [*ARRIVAL, looked(replace(WAITS, state="superseded"))]),
    "succeeded, and the device knows nothing": ("false_success", [*ARRIVAL, looked(JOB)]),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_history_in_which_nothing_was_broken(name: str) -> None:
    assert judge(GOOD[name]) == []


@pytest.mark.parametrize("name", BAD)
def test_a_history_that_is_caught(name: str) -> None:
    rule, history = BAD[name]
    assert rule in {violation.rule for violation in judge(history)}


def test_each_rule_is_told_once_for_one_thing_however_often_it_is_seen() -> None:
    ended = looked(replace(JOB, state="failed"))
    assert [str(one) for one in judge([*ARRIVAL, ended, ended])] == [
        "unexplained: job 1 for pump-1 failed without a code"
    ]
