"""How many seeds a random search tries: a third of them in `make test`, all in `make nightly`."""

import os

IS_THOROUGH = bool(os.environ.get("GATEWAYD_THOROUGH"))


def seeds(count: int) -> range:
    """Return the seeds for this run, out of `count`."""
    return range(count if IS_THOROUGH else -(-count // 3))
