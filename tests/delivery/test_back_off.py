"""The wait doubles up to a limit, and is spread over its upper half."""

from hypothesis import given
from hypothesis import strategies as st

from gatewayd.back_off import back_off_s

LONGEST_S = 300.0


def test_it_doubles_up_to_the_longest() -> None:
    waits = [back_off_s(n, 1.0, longest_s=LONGEST_S) for n in (1, 2, 3, 8, 9, 1000)]
    assert waits == [2, 4, 8, 256, 300, 300]
    assert [back_off_s(n, 0.0, longest_s=LONGEST_S) for n in (1, 2, 9)] == [1, 2, 150]


@given(st.integers(1, 10**6), st.floats(0, 1), st.floats(2, 1000))
def test_it_is_spread_over_the_upper_half_and_never_shrinks(n: int, chance: float, longest_s: float) -> None:
    wait_s = back_off_s(n, chance, longest_s=longest_s)
    assert 1 <= wait_s <= longest_s
    assert back_off_s(n, 1, longest_s=longest_s) == 2 * back_off_s(n, 0, longest_s=longest_s)
    assert back_off_s(n + 1, chance, longest_s=longest_s) >= wait_s
