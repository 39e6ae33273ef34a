"""Durations as people write them: a whole number with a unit, such as `90s`, `2m`, `6h` or `1d`."""

import re
from datetime import timedelta
from typing import Any

from gatewayd.errors import ConfigError

# Nine digits of days still fit a timedelta.
PATTERN = r"^[1-9][0-9]{0,8}[smhd]$"
_UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


def read_duration(value: Any, shortest: timedelta, longest: timedelta) -> timedelta:
    """Read a duration from `shortest` to `longest`, both included. Raises ConfigError."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise ConfigError(
            f"expected a number with a unit, got the number {value}",
            hint=f"Write {value}s, {value}m, {value}h or {value}d",
        )
    if not isinstance(value, str) or not re.fullmatch(PATTERN, value):
        shown = repr(value[:80]) if isinstance(value, str) else "something else"
        raise ConfigError(
            f"expected a whole number with a unit, got {shown}",
            hint="Write it like 90s, 2m, 6h or 1d",
        )
    duration = timedelta(seconds=int(value[:-1]) * _UNITS[value[-1]])
    if not shortest <= duration <= longest:
        raise ConfigError(f"expected {duration_text(shortest)} to {duration_text(longest)}, got {value}")
    return duration


def duration_text(duration: timedelta) -> str:
    """Format a duration of whole seconds in the largest unit that divides it."""
    seconds = int(duration.total_seconds())
    unit = next(unit for unit, size in _UNITS.items() if seconds % size == 0)
    return f"{seconds // _UNITS[unit]}{unit}"
