"""Guessing, by a clock that the tests turn."""

from gatewayd.web.throttle import BURST, BURST_OF_ALL, REFILL_OF_ALL_S, REFILL_S, Throttle


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def guess(throttle: Throttle, address: str = "10.0.0.1") -> bool:
    if throttle.wait_s(address) > 0:
        return False
    throttle.begin(address)
    return True


def test_some_at_once_and_then_one_in_a_while() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    assert [guess(throttle) for _ in range(BURST + 1)] == [True] * BURST + [False]
    assert throttle.wait_s("10.0.0.1") == REFILL_S
    clock.now += REFILL_S
    assert [guess(throttle), guess(throttle)] == [True, False]
    clock.now += 1e6
    assert [guess(throttle) for _ in range(BURST + 1)] == [True] * BURST + [False], "no more than that"


def test_a_right_one_costs_nothing() -> None:
    throttle = Throttle(Clock())
    for _ in range(BURST * 3):
        assert guess(throttle)
        throttle.succeed("10.0.0.1")


def test_another_address_is_another_person_until_there_are_too_many() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    for number in range(BURST_OF_ALL):
        assert guess(throttle, f"10.0.0.{number}")
    assert not guess(throttle, "10.0.1.1")
    assert throttle.wait_s("10.0.1.1") == REFILL_OF_ALL_S
    clock.now += REFILL_OF_ALL_S
    assert guess(throttle, "10.0.1.1")


def test_addresses_are_not_kept_without_end() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    for number in range(3000):
        clock.now += REFILL_OF_ALL_S
        guess(throttle, str(number))
    assert len(throttle._by_address) == 1000  # noqa: SLF001 - what it costs
