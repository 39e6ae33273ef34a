"""All checks, in order."""

import errno
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

from gatewayd.config import ConfigErrors, Mistake, Settings, load
from gatewayd.doctor.bootloaders import examine_bootloaders
from gatewayd.doctor.broker import examine_broker
from gatewayd.doctor.finding import Finding, failure, ok, warning
from gatewayd.doctor.host import (
    examine_clock,
    examine_database,
    examine_quarantine,
    examine_sqlite,
    examine_state_dir,
)
from gatewayd.doctor.in_force import examine_without_settings
from gatewayd.doctor.keys import examine_keys, hidden_from_service
from gatewayd.doctor.mounts import examine_permanence
from gatewayd.doctor.ports import examine_ports
from gatewayd.doctor.process import daemon_findings, examine_watchdog, find_account
from gatewayd.store.lock import LockHolder, find_daemon

_SUBJECT = "configuration"


async def examine(config: Path, control_socket: Path | None = None) -> AsyncIterator[Finding]:
    """Run all checks, and yield each finding as soon as it is known.

    If the configuration is invalid, checks that depend on it are skipped. `control_socket`: the daemon's,
    where it is not the one in the configuration.
    """
    try:
        settings = load(config)
    except ConfigErrors as error:
        for mistake in error.mistakes:
            yield _mistake(mistake)
        for finding in examine_without_settings(config, control_socket):
            yield finding
        yield examine_clock()
        yield examine_sqlite()
        yield examine_watchdog(LockHolder(runs=None))
        return
    if control_socket is not None:
        gateway = settings.gateway.model_copy(update={"control_socket": control_socket})
        settings = settings.model_copy(update={"gateway": gateway})
    yield _loaded(settings)
    for unwise in settings.warnings:
        yield _unwise(unwise)
    async for finding in examine_broker(settings):
        yield finding
    yield examine_clock()
    for finding in _examine_machine(config, settings):
        yield finding


def _examine_machine(config: Path, settings: Settings) -> Iterator[Finding]:
    gateway = settings.gateway
    daemon = find_daemon(gateway.state_dir)
    account, why = find_account(gateway, daemon)
    yield ok("account", f"checking permissions as {account.name}, {why}")
    yield from examine_ports(settings.devices, account, daemon)
    yield from examine_keys(settings, account, hidden_from_service(gateway, daemon))
    yield from examine_state_dir(gateway.state_dir, account, settings.mqtt.max_message_mib)
    yield from examine_permanence(gateway.state_dir)
    yield examine_database(gateway, daemon)
    yield from examine_quarantine(gateway.state_dir)
    yield examine_sqlite()
    yield from daemon_findings(config, gateway, daemon)
    if daemon.runs:
        yield from examine_bootloaders(settings)
    yield examine_watchdog(daemon)


def _loaded(settings: Settings) -> Finding:
    count = len(settings.devices)
    return ok(_SUBJECT, f"{settings.file}: {count} device{'' if count == 1 else 's'}")


def _mistake(mistake: Mistake) -> Finding:
    hint = mistake.suggestion or "correct the file"
    if os.strerror(errno.EACCES) in mistake.message:
        hint += "; or run the doctor as root, or as the user that gatewayd runs as"
    return failure(_SUBJECT, _place(mistake), code="bad_configuration", hint=hint)


def _unwise(mistake: Mistake) -> Finding:
    return warning(
        _SUBJECT,
        _place(mistake),
        code="unwise",
        hint=mistake.suggestion or "nothing to do if this is intended",
    )


def _place(mistake: Mistake) -> str:
    return str(replace(mistake, suggestion="")).removesuffix(".")
