"""How an attempt ends without a failure: the device, or a person, postpones it."""

LONGEST_DEFERRAL_S = 3600
# A device that keeps saying "in 0 s" would make us open its port and write to the disk endlessly.
SHORTEST_DEFERRAL_S = 5


class Deferral(Exception):  # noqa: N818 - not an error: the device asked to be left alone
    """The device asks to be retried in `seconds`, which is limited to between 5 s and an hour."""

    def __init__(self, seconds: int, reason: int) -> None:
        super().__init__(seconds, reason)
        self.seconds = min(max(seconds, SHORTEST_DEFERRAL_S), LONGEST_DEFERRAL_S)
        self.reason = reason


class Paused(Exception):  # noqa: N818 - not an error: a person paused the device
    """The image would have to be sent, but the device is paused."""
