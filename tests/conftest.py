import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

# Who runs in the background of a script ignores SIGINT, and so would all it starts: Ctrl-C would end nobody.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no defect: time is never asserted.
settings.register_profile("gatewayd", deadline=None)
settings.load_profile("gatewayd")

# What runs in a virtual machine, and reports from there.
collect_ignore = ["suites/vm"]

TESTS = Path(__file__).parent
SLOW_FOLDERS = (TESTS / "e2e", TESTS / "suites")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever needs whole gateways is slow: `make quick` leaves it out, `make test` begins with it."""
    for item in items:
        if any(folder in item.path.parents for folder in SLOW_FOLDERS):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """Suites that run in this process silence the log, for them alone."""
    yield
    structlog.reset_defaults()
