"""The fuzzers' targets hold for their seeds and for what was found; `make fuzz` looks for more."""

import pytest
from fuzz.__main__ import found
from fuzz.targets import TARGETS, EndlessError, converse, within


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_holds_for_its_seeds_and_for_what_was_found(name: str) -> None:
    target = TARGETS[name]
    seeds = [*target.seeds(), *found(target)]
    assert len(seeds) > 1
    for seed in seeds:
        target.check(seed)
        target.check(seed[: len(seed) // 2])


def test_a_session_gets_as_far_as_the_image() -> None:
    """Else its fuzzer would stand at the door."""
    assert max(converse(seed).traffic.image_bytes_sent for seed in TARGETS["session"].seeds()) > 0


def test_work_beyond_measure_is_noticed() -> None:
    with pytest.raises(EndlessError):
        within(11, 10)
