"""What is made of what the daemon knows."""

from dataclasses import replace

from gatewayd.control.views import attempt_views
from gatewayd.jobs.model import AttemptRecord

BEGUN = AttemptRecord("begun", ended_at="ended")


def repeated(*attempts: AttemptRecord) -> list[int]:
    return [view.bytes_repeated for view in attempt_views(attempts)]


def test_what_another_attempt_had_sent_is_sent_again() -> None:
    first = replace(BEGUN, offset=0, bytes_sent=60)
    assert repeated(first, replace(BEGUN, offset=56, bytes_sent=100)) == [0, 4]
    assert repeated(first, replace(BEGUN, offset=56, bytes_sent=2)) == [0, 2]  # it did not get further
    assert repeated(first, replace(BEGUN, offset=60, bytes_sent=10)) == [0, 0]


def test_an_attempt_that_moved_nothing_does_not_count() -> None:
    first = replace(BEGUN, offset=0, bytes_sent=60, bytes_repeated=10)
    again = replace(BEGUN, offset=40, bytes_sent=60, bytes_repeated=5)
    assert repeated(first, replace(BEGUN, code="link_missing"), again) == [10, 0, 15]


def test_the_furthest_counts_not_the_last() -> None:
    attempts = [replace(BEGUN, offset=at, bytes_sent=sent) for at, sent in ((0, 90), (40, 10), (40, 60))]
    assert repeated(*attempts) == [0, 10, 50]
