"""A finding: one result of a check."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from gatewayd.errors import GatewaydError


class Level(StrEnum):
    """The severity. With a warning things work today; with a failure they do not."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


class Finding(BaseModel):
    """One result. `code` and `hint` (the next step) are null if all is well."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str
    level: Level
    code: str | None
    text: str
    hint: str | None


class DoctorReport(BaseModel):
    """The output of `gatewayctl doctor --json`; `ok`: there is no failure."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    findings: tuple[Finding, ...]
    ok: bool


def ok(subject: str, text: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(subject=subject, level=Level.OK, code=None, text=text, hint=None)


def warning(subject: str, text: str, *, code: str, hint: str) -> Finding:
    """Return a finding that something works, but needs attention."""
    return Finding(subject=subject, level=Level.WARNING, code=code, text=text, hint=hint)


def failure(subject: str, text: str, *, code: str, hint: str) -> Finding:
    """Return a finding that something does not work."""
    return Finding(subject=subject, level=Level.FAILURE, code=code, text=text, hint=hint)


def refused(subject: str, error: GatewaydError, *, hint: str = "") -> Finding:
    """Return a failure for an error; `hint` is used if the error has none."""
    return Finding(
        subject=subject,
        level=Level.FAILURE,
        code=error.code,
        text=error.message,
        hint=error.hint or hint or None,
    )
