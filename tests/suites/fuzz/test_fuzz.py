"""The fuzzers' targets hold for their seeds and for what was found; `make fuzz` looks for more."""

import pytest
from lab.containers import KEY

from gatewayd.ota.container import parse
from suites.fuzz import targets
from suites.fuzz.__main__ import found
from suites.fuzz.measure import EndlessError, within
from suites.fuzz.targets import TARGETS, container, converse, genuine, small_sources, vouched


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


@pytest.mark.parametrize("signed", [True, False])
def test_what_is_behind_a_signature_is_fuzzed_too(signed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changed content gets a signature that goes with it; without one it must not be accepted."""
    number, source = next(
        (number, source) for number, source in enumerate(small_sources()) if source.signed is signed
    )
    changed = source.plain[:-1] + b"!"
    assert vouched(source, changed) == source.plain
    container(bytes([number << 2 | 2]) + changed)
    monkeypatch.setattr(targets, "open_container", lambda *_, **__: parse(source.plain, KEY.verify_key))
    monkeypatch.setattr(targets, "genuine", frozenset)
    with pytest.raises(AssertionError, match="changed, and accepted" if signed else "not all"):
        container(bytes([number << 2 | (0 if signed else 2)]) + source.plain[:-20] + bytes(20 + (not signed)))


def test_seeds_written_by_one_process_hold_in_another() -> None:
    """Encryption makes other bytes each time; the fuzzer reads what its parent wrote."""
    seeds = [*TARGETS["container"].seeds()]
    small_sources.cache_clear()
    genuine.cache_clear()
    for seed in seeds:
        container(seed)
