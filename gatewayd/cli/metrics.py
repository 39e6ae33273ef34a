"""`gatewayctl metrics`: for node_exporter's textfile collector, or to look at."""

from pathlib import Path

import click

from gatewayd.cli.options import json_option, socket_option
from gatewayd.control.client import ask
from gatewayd.control.metrics_messages import MetricsResult
from gatewayd.control.requests import Metrics
from gatewayd.errors import HostError
from gatewayd.whole_file import replace_file


@click.command("metrics")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write to this file instead, replacing it as a whole, readable by everybody.",
)
@socket_option
@json_option
def metrics(output: Path | None, control_socket: Path, as_json: bool) -> None:
    """Print the metrics of the daemon in Prometheus' text format.

    With node_exporter: write them to a .prom file in the folder of its textfile collector, once a minute.
    If the daemon cannot be reached, the file is removed: old figures would look like new ones.
    """
    try:
        found = ask(control_socket, Metrics(), MetricsResult)
    except HostError:
        if output is not None:
            output.unlink(missing_ok=True)
        raise
    if as_json:
        text = found.model_dump_json() + "\n"
    else:
        from gatewayd.metrics import exposition  # noqa: PLC0415 - other commands do without the library

        text = exposition(found)
    if output is None:
        click.echo(text, nl=False)
    else:
        replace_file(output, text, mode=0o644)
