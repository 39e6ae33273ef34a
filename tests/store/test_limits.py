"""How much devices that bring nothing new may have written, one by one and all together."""

from gatewayd.store.limits import A_DEVICE_PER_HOUR, ALL_PER_HOUR, WriteLimits

HOUR_S = 3600.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def written(limits: WriteLimits, clock: Clock, devices: int, hours: int) -> int:
    """Count what is written for devices that ask once a minute, each of them."""
    count = 0
    for minute in range(60 * hours):
        clock.now = minute * 60.0
        count += sum(limits.take(f"pump-{number}") for number in range(devices))
    return count


def test_a_device_has_its_share() -> None:
    clock = Clock()
    assert written(WriteLimits(clock), clock, devices=1, hours=10) in range(
        A_DEVICE_PER_HOUR * 10, A_DEVICE_PER_HOUR * 11 + 1
    )


def test_a_hundred_devices_have_one_limit_together() -> None:
    clock = Clock()
    assert written(WriteLimits(clock), clock, devices=100, hours=10) in range(
        ALL_PER_HOUR * 10, ALL_PER_HOUR * 11 + 1
    )


def test_one_that_asks_without_end_leaves_something_for_the_others() -> None:
    clock = Clock()
    limits = WriteLimits(clock)
    asked = [limits.take("chatty") for _ in range(1000)]
    assert sum(asked) == A_DEVICE_PER_HOUR
    assert limits.take("quiet")
