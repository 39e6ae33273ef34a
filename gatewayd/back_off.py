"""How long to wait after failures in a row. Pure."""


def back_off_s(failures: int, chance: float, *, longest_s: float) -> float:
    """Return how long to wait after the n-th failure in a row (from 1): 1..2, 2..4, … up to `longest_s`.

    `chance` (0 to 1) picks a place in the upper half, so that what failed together does not return at once.
    """
    most_s = min(longest_s, 2.0 ** min(failures, 16))
    return most_s / 2 * (1 + chance)
