"""One line of the doctor's."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from gatewayd.errors import GatewaydError


class Level(StrEnum):
    """How bad it is. A warning works today; a failure does not."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


class Finding(BaseModel):
    """What was found. `code` and `hint`, the next step, are null when all is well."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str
    level: Level
    code: str | None
    text: str
    hint: str | None


class DoctorReport(BaseModel):
    """What `gatewayctl doctor --json` prints; `ok`: nothing failed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    findings: tuple[Finding, ...]
    ok: bool


def ok(subject: str, text: str) -> Finding:
    """All is well."""
    return Finding(subject=subject, level=Level.OK, code=None, text=text, hint=None)


def warning(subject: str, text: str, *, code: str, hint: str) -> Finding:
    """It works and should be looked at."""
    return Finding(subject=subject, level=Level.WARNING, code=code, text=text, hint=hint)


def failure(subject: str, text: str, *, code: str, hint: str) -> Finding:
    """It does not work."""
    return Finding(subject=subject, level=Level.FAILURE, code=code, text=text, hint=hint)


def refused(subject: str, error: GatewaydError, *, hint: str = "") -> Finding:
    """Tell of an error; `hint` stands in where the error has none."""
    return Finding(
        subject=subject,
        level=Level.FAILURE,
        code=error.code,
        text=error.message,
        hint=error.hint or hint or None,
    )
