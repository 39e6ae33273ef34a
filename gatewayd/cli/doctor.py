"""`gatewayctl doctor`: find what is wrong with this gateway, and what to do about it."""

import asyncio
import shutil
import sys
import textwrap
from pathlib import Path

import click

from gatewayd.cli.exits import CONFIGURATION, DONE, REFUSED
from gatewayd.cli.options import config_option, json_option
from gatewayd.codes import Code
from gatewayd.doctor import DoctorReport, Finding, Level, examine

WIDTH = 80
_INDENT = 9  # the longest level and two spaces
_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILURE: "red"}


@click.command("doctor")
@config_option("The gateway's configuration.")
@click.option(
    "--socket",
    "control_socket",
    type=click.Path(path_type=Path),
    callback=lambda context, _, value: value or context.find_root().params.get("control_socket"),
    help="The daemon's control socket. [default: the one in the configuration]",
)
@json_option
def command(config: Path, control_socket: Path | None, as_json: bool) -> None:
    """Check whether this gateway can work, and say how to fix what is wrong.

    Changes nothing. Run it as root, or as the user that gatewayd runs as. Exits with 1 if a check
    failed, with 78 if the configuration is invalid.
    """
    findings = asyncio.run(_examine(config, control_socket, prints=not as_json))
    failures = [finding for finding in findings if finding.level is Level.FAILURE]
    if as_json:
        click.echo(DoctorReport(findings=tuple(findings), ok=not failures).model_dump_json())
    if any(finding.code == Code.BAD_CONFIGURATION for finding in failures):
        sys.exit(CONFIGURATION)
    sys.exit(REFUSED if failures else DONE)


async def _examine(config: Path, control_socket: Path | None, *, prints: bool) -> list[Finding]:
    findings = []
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    async for finding in examine(config, control_socket):
        findings.append(finding)
        if prints:
            click.echo(layout(finding, width))
    return findings


def layout(finding: Finding, width: int) -> str:
    """Format a finding with a hanging indent; click strips the colour if there is no terminal."""
    level = click.style(f"{finding.level.value:<{_INDENT}}", fg=_COLOURS[finding.level])
    lines = [level + _wrapped(f"{finding.subject}: {_one_line(finding.text)}", width)]
    if finding.hint:
        lines.append(" " * _INDENT + _wrapped(f"→ {_one_line(finding.hint)}", width))
    return "\n".join(lines)


def _wrapped(text: str, width: int) -> str:
    """Break lines only at spaces: a broken path or command cannot be copied."""
    lines = textwrap.wrap(text, width - _INDENT, break_long_words=False, break_on_hyphens=False)
    return f"\n{' ' * _INDENT}".join(lines)


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
