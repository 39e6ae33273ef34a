"""One way of writing times, for people and programs."""

from datetime import UTC, datetime


def utc_text(moment: datetime, timespec: str = "seconds") -> str:
    """Write a moment in UTC, ISO 8601, ending with Z; `timespec` as `datetime.isoformat` takes it."""
    return moment.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")
