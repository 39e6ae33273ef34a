"""Where things are in this tree."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"


def with_tests_on_path() -> dict[str, str]:
    """Return the environment in which a new Python finds `lab` and `suites`, as pytest does."""
    others = [path for path in (os.environ.get("PYTHONPATH"),) if path]
    return os.environ | {"PYTHONPATH": os.pathsep.join([*others, str(TESTS)])}
