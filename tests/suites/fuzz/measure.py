"""The bound on a target's work."""


class EndlessError(AssertionError):
    """More work than the input's length explains."""


class Allowance:
    """By how much the bounds are wider: a fuzzer's instrumentation makes calls of its own."""

    factor = 1


def within(steps: int, most: int) -> None:
    if steps > most * Allowance.factor:
        raise EndlessError(f"{steps} calls, expected at most {most * Allowance.factor}")
