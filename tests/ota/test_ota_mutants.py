"""Thousands of changed containers: every one is refused, and with the code of what was done to it."""

from collections import Counter
from functools import cache

import pytest
from lab.container_sources import sources
from lab.mutants import INSIDE, OUTSIDE, Class, mutants_of

from gatewayd.errors import FirmwareError
from gatewayd.ota.container import open_container

pytestmark = pytest.mark.slow

CLASSES = INSIDE + OUTSIDE
LEAST_MUTANTS = 5000


@cache
def judged(mutate: Class) -> tuple[Counter[str], tuple[str, ...], frozenset[str]]:
    """Return how often each code was given, what was judged wrongly, and which codes were expected."""
    codes: Counter[str] = Counter()
    wrong: list[str] = []
    expected: set[str] = set()
    for mutant in mutants_of(mutate):
        expected |= mutant.codes
        try:
            open_container(mutant.data, mutant.source.keys, allow_unsigned=False)
            code = "accepted"
        except FirmwareError as error:
            code = error.code
        codes[code] += 1
        if code not in mutant.codes:
            wrong.append(f"{mutant.source.name}: {mutant.what}: {code}, not {sorted(mutant.codes)}")
    return codes, tuple(wrong), frozenset(expected)


def test_the_sources_are_good_and_of_every_kind() -> None:
    for source in sources():
        container = open_container(source.data, source.keys, allow_unsigned=False)
        assert (container.signed, container.encrypted) == (source.signed, source.encrypted)
    kinds = {(source.signed, source.encrypted, len(source.roms)) for source in sources()}
    assert len(kinds) == 8


@pytest.mark.parametrize("mutate", CLASSES, ids=lambda mutate: mutate.__name__)
def test_every_mutant_is_refused_with_the_right_code(mutate: Class) -> None:
    codes, wrong, expected = judged(mutate)
    assert wrong == ()
    # A code that never comes would only make room for a wrong one.
    assert set(codes) == expected


def test_there_are_enough_of_them_and_none_is_accepted() -> None:
    total = sum((judged(mutate)[0] for mutate in CLASSES), Counter())
    assert total.total() >= LEAST_MUTANTS
    assert "accepted" not in total
