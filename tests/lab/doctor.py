"""The doctor's findings on a broker, and a mosquitto with access rules."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gatewayd.config import Settings
from gatewayd.doctor.broker import examine_broker
from gatewayd.doctor.finding import Finding
from lab.brokers import Mosquitto, password_file
from lab.configuration import Lab, private_file

PASSWORD = "hunter2-hunter2"  # noqa: S105 - made up
# The user whom the rules of a guarded broker are for.
BARN = {"username": "barn", "password_file": "password"}


def settings_at(folder: Path, port: int, **mqtt: Any) -> Settings:
    lab = Lab(folder)
    lab.tree["mqtt"] = {"host": "127.0.0.1", "port": port, **mqtt}
    return lab.settings()


async def look(settings: Settings) -> dict[str, Finding]:
    return {finding.subject: finding async for finding in examine_broker(settings)}


def levels(findings: dict[str, Finding]) -> dict[str, str]:
    return {subject: finding.code or finding.level.value for subject, finding in findings.items()}


@asynccontextmanager
async def guarded(folder: Path, *rules: str) -> AsyncIterator[Mosquitto]:
    passwords = password_file(folder / "passwords", {"barn": PASSWORD})
    acl = private_file(folder / "acl", "\n".join(["user barn", *rules, ""]).encode())
    lines = ("allow_anonymous false", f"password_file {passwords}", f"acl_file {acl}")
    with Mosquitto(folder / "m", *lines) as mosquitto:
        yield mosquitto
