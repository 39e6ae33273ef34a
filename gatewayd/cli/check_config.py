"""`gatewayctl check-config`: print every mistake and warning in a configuration."""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from gatewayd.cli.exits import CONFIGURATION
from gatewayd.cli.formatting import plural
from gatewayd.cli.options import DEFAULT_CONFIG, config_file, host_options, json_option
from gatewayd.config import ConfigErrors, Host, Mistake, Settings, load
from gatewayd.config.fragments import FOLDER
from gatewayd.config.schema import schema_text
from gatewayd.control.client import ask
from gatewayd.control.messages import StatusResult
from gatewayd.control.requests import Status
from gatewayd.doctor import Level
from gatewayd.doctor.in_force import examine_in_force
from gatewayd.errors import RequestError


@click.command("check-config")
@config_file
@host_options
@json_option
@click.option(
    "--in-force",
    is_flag=True,
    help="Also ask the running gatewayd whether it has this configuration in force.",
)
@click.option("--print-schema", is_flag=True, help="Print the JSON Schema for editors, and check nothing.")
def command(path: Path, host: Host | None, as_json: bool, in_force: bool, print_schema: bool) -> None:
    """Check a configuration, the conf.d beside it, and the keys it names.

    Prints every mistake with file, line and key, and exits with 78 if there is one. With --host, checks it
    for another machine; keys and passwords that are missing here are then only warnings. With --in-force,
    exits with 1 if the running gatewayd has something else in force, and with 75 if none answers.
    """
    if print_schema:
        click.echo(schema_text(), nl=False)
        return
    if in_force and host is not None:
        raise click.UsageError("--in-force is about the gatewayd of this machine, --host about another")
    whole = path.absolute().parent.parent / DEFAULT_CONFIG.name
    if path.absolute().parent.name == FOLDER and whole.exists():
        raise click.UsageError(f"{path} is part of {whole}; check that file instead")
    try:
        settings = load(path, host)
    except ConfigErrors as error:
        _print_mistakes(path, error, as_json=as_json)
        sys.exit(CONFIGURATION)
    if in_force:
        check_in_force(path, settings.gateway.control_socket)
    _print_success(path, settings, as_json=as_json, in_force=in_force)


def check_in_force(path: Path, control_socket: Path) -> None:
    """Raise RequestError `not_in_force`, or with the code of why gatewayd refuses it; DaemonUnreachable."""
    status = ask(control_socket, Status(), StatusResult)
    for finding in examine_in_force(path, control_socket, status):
        if finding.level is not Level.OK:
            raise RequestError(finding.text, code=finding.code or "", hint=finding.hint or "")


def _print_mistakes(path: Path, error: ConfigErrors, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"file": str(path), "ok": False, "mistakes": _listed(error.mistakes)}))
        return
    for mistake in error.mistakes:
        click.echo(str(mistake), err=True)


def _print_success(path: Path, settings: Settings, *, as_json: bool, in_force: bool) -> None:
    count = len(settings.devices)
    if as_json:
        warnings, files = _listed(settings.warnings), [str(file) for file in settings.files]
        found = {"file": str(path), "files": files, "ok": True, "devices": count}
        click.echo(json.dumps(found | {"in_force": in_force or None, "warnings": warnings}))
        return
    for warning in settings.warnings:
        click.echo(f"warning: {warning}")
    fragments = len(settings.files) - 1
    more = f", with {plural(fragments, 'file')} from conf.d" if fragments else ""
    known = ", in force" if in_force else ""
    click.echo(f"{path}: ok, {plural(count, 'device')}{more}{known}")


def _listed(mistakes: Iterable[Mistake]) -> list[dict[str, Any]]:
    return [asdict(mistake) | {"file": str(mistake.file)} for mistake in mistakes]
