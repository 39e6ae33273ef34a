"""`gatewayctl config`: the configuration as gatewayd reads it, all files and defaults together."""

from pathlib import Path

import click

from gatewayd.cli.options import config_file, host_options, json_option
from gatewayd.cli.report import EffectiveConfig, Source
from gatewayd.config import Host
from gatewayd.config.effective import as_yaml, effective, sources
from gatewayd.config.fragments import read_all
from gatewayd.config.loader import settle


@click.command("config")
@config_file
@click.option("--effective", "is_wanted", is_flag=True, required=True, help="Print what is in force.")
@host_options
@json_option
def command(
    path: Path,
    host: Host | None,
    as_json: bool,
    is_wanted: bool,  # noqa: ARG001 - there is nothing else to want yet
) -> None:
    """Print the configuration as it is in force.

    All files merged, every default filled in, and behind each value where it was written. It can be read
    again, and comes to the same. Files are named; no secret is shown.
    """
    document = read_all(path, host or Host.here())
    tree = effective(settle(document))
    if not as_json:
        click.echo(as_yaml(document, tree), nl=False)
        return
    found = {
        key: place and Source(file=str(place.file), line=place.line)
        for key, place in sources(document, tree).items()
    }
    files = [str(one) for one in document.files]
    click.echo(EffectiveConfig(files=files, configuration=tree, sources=found).model_dump_json())
