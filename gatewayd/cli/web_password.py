"""`gatewayctl web-password`: who may sign in on the page."""

import sys
from pathlib import Path

import click

from gatewayd.cli.formatting import echo
from gatewayd.cli.options import json_option
from gatewayd.cli.report import PasswordSet
from gatewayd.web.passwords import set_password


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("name")
@click.option("--remove", is_flag=True, help="Take this person out.")
@json_option
def command(file: Path, name: str, *, remove: bool, as_json: bool) -> None:
    """Set the password with which NAME signs in on the page of gatewayd-web.

    Asks for it twice on a terminal; otherwise it is the first line of standard input. FILE holds only
    hashes, and is created if it does not exist. The service of the Debian package takes
    /etc/credstore/gatewayd-web.passwords; restart it afterwards.
    """
    set_password(file, name, None if remove else _read_password(name))
    if as_json:
        click.echo(PasswordSet(file=str(file.absolute()), name=name, removed=remove).model_dump_json())
        return
    echo(f"{file}: {name} {'can no longer' if remove else 'can'} sign in")


def _read_password(name: str) -> str:
    if sys.stdin is None:
        return ""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password: str = click.prompt(f"Password for {name}", hide_input=True, confirmation_prompt=True)
    return password
