"""One way of writing times, for people and programs."""

from datetime import UTC, datetime


def utc_text(moment: datetime, timespec: str = "seconds") -> str:
    """Write a moment in UTC, ISO 8601, ending with Z; `timespec` as `datetime.isoformat` takes it."""
    return moment.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def utc_now() -> str:
    """Return the time for people: UTC, ISO 8601, seconds."""
    return utc_text(datetime.now(UTC))


def seconds_since(text: str) -> float:
    """Return how long ago a time was that `utc_text` wrote; below 0 if the clock was set back since."""
    return (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()
