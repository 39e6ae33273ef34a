"""How an attempt ends that is nobody's failure: the device, or a person, wants it later."""

LONGEST_DEFERRAL_S = 3600
# One that says "in 0 s" again and again would have us open its port and write to the disk without end.
SHORTEST_DEFERRAL_S = 5


class Deferral(Exception):  # noqa: N818 - not an error: the device asked to be left alone
    """The device wants to be asked again in `seconds`; it may say anything, we come back within the hour."""

    def __init__(self, seconds: int, reason: int) -> None:
        super().__init__(seconds, reason)
        self.seconds = min(max(seconds, SHORTEST_DEFERRAL_S), LONGEST_DEFERRAL_S)
        self.reason = reason


class Paused(Exception):  # noqa: N818 - not an error: a person lets the device wait
    """The image would have to be sent, and the device is paused."""
