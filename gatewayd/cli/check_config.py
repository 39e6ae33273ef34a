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


@click.command("check-config")
@config_file
@host_options
@json_option
@click.option("--print-schema", is_flag=True, help="Print the JSON Schema for editors, and check nothing.")
def command(path: Path, host: Host | None, as_json: bool, print_schema: bool) -> None:
    """Check a configuration, the conf.d beside it, and the keys it names.

    Prints every mistake with file, line and key, and exits with 78 if there is one. With --host, checks it
    for another machine; keys and passwords that are missing here are then only warnings.
    """
    if print_schema:
        click.echo(schema_text(), nl=False)
        return
    whole = path.absolute().parent.parent / DEFAULT_CONFIG.name
    if path.absolute().parent.name == FOLDER and whole.exists():
        raise click.UsageError(f"{path} is part of {whole}; check that file instead")
    try:
        settings = load(path, host)
    except ConfigErrors as error:
        _print_mistakes(path, error, as_json=as_json)
        sys.exit(CONFIGURATION)
    _print_success(path, settings, as_json=as_json)


def _print_mistakes(path: Path, error: ConfigErrors, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"file": str(path), "ok": False, "mistakes": _listed(error.mistakes)}))
        return
    for mistake in error.mistakes:
        click.echo(str(mistake), err=True)


def _print_success(path: Path, settings: Settings, *, as_json: bool) -> None:
    count = len(settings.devices)
    if as_json:
        warnings, files = _listed(settings.warnings), [str(file) for file in settings.files]
        found = {"file": str(path), "files": files, "ok": True, "devices": count, "warnings": warnings}
        click.echo(json.dumps(found))
        return
    for warning in settings.warnings:
        click.echo(f"warning: {warning}")
    fragments = len(settings.files) - 1
    more = f", with {plural(fragments, 'file')} from conf.d" if fragments else ""
    click.echo(f"{path}: ok, {plural(count, 'device')}{more}")


def _listed(mistakes: Iterable[Mistake]) -> list[dict[str, Any]]:
    return [asdict(mistake) | {"file": str(mistake.file)} for mistake in mistakes]
