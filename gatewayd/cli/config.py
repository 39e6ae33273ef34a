"""`gatewayctl config`: the configuration as gatewayd reads it, all files and defaults together."""

from pathlib import Path

import click

from gatewayd.cli.options import host_options, json_option
from gatewayd.cli.report import EffectiveConfig, Source
from gatewayd.config import Host
from gatewayd.config.effective import as_yaml, effective, sources
from gatewayd.config.fragments import read_all
from gatewayd.config.loader import settle

DEFAULT_CONFIG = Path("/etc/gatewayd/config.yaml")


@click.command("config")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--config", "option", type=click.Path(path_type=Path), help=f"[default: {DEFAULT_CONFIG}]")
@click.option("--effective", "is_wanted", is_flag=True, required=True, help="Print what is in force.")
@host_options
@json_option
def command(
    file: Path | None,
    option: Path | None,
    host: Host | None,
    as_json: bool,
    is_wanted: bool,  # noqa: ARG001 - there is nothing else to want yet
) -> None:
    """Print the configuration as it is in force.

    All files merged, every default filled in, and behind each value where it was written. It can be read
    again, and comes to the same. Files are named; no secret is shown.
    """
    if file and option:
        raise click.UsageError("give the file either as argument or with --config")
    document = read_all(file or option or DEFAULT_CONFIG, host or Host.here())
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
