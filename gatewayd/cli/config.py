"""`gatewayctl config`: the effective configuration, all files and defaults merged."""

from pathlib import Path

import click

from gatewayd.cli.options import config_file, host_options, json_option
from gatewayd.cli.report import EffectiveConfig, Source
from gatewayd.config import Host
from gatewayd.config.effective import as_yaml, effective, sources
from gatewayd.config.fragments import read_all
from gatewayd.config.loader import settle
from gatewayd.config.revision import revision_of


@click.command("config")
@config_file
@click.option("--effective", "is_wanted", is_flag=True, required=True, help="Print the effective values.")
@host_options
@json_option
def command(
    path: Path,
    host: Host | None,
    as_json: bool,
    is_wanted: bool,  # noqa: ARG001 - the only choice so far
) -> None:
    """Print the effective configuration.

    All files are merged, every default is filled in, and a comment after each value says where it was
    written. The output is itself a valid configuration with the same meaning. Secrets are not shown. The
    revision is what a daemon with this configuration in force reports.
    """
    document = read_all(path, host or Host.here())
    settings = settle(document)
    tree, revision = effective(settings), revision_of(settings)
    if not as_json:
        heading, rest = as_yaml(document, tree).split("\n", 1)
        click.echo(f"{heading}\n# revision {revision}\n{rest}", nl=False)
        return
    found = {
        key: place and Source(file=str(place.file), line=place.line)
        for key, place in sources(document, tree).items()
    }
    files = [str(one) for one in document.files]
    click.echo(
        EffectiveConfig(revision=revision, files=files, configuration=tree, sources=found).model_dump_json()
    )
