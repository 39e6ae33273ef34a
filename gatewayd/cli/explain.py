"""`gatewayctl explain`: show what the planner would do and why, without doing it."""

from pathlib import Path

import click

from gatewayd.cli.formatting import echo, indented, plural, printable, size
from gatewayd.cli.options import device_argument, json_option, socket_option
from gatewayd.codes import Code
from gatewayd.control.client import ask
from gatewayd.control.messages import (
    Assessment,
    ExplainDeviceResult,
    ExplainMessageResult,
    Forecast,
    SuspendedResult,
)
from gatewayd.control.parse import build
from gatewayd.control.requests import ExplainDevice, ExplainMessage, Suspended

# How many of the devices that a message does not concern are listed.
_LISTED = 5


@click.command()
@device_argument("subject", metavar="[DEVICE|TOPIC]", required=False)
@click.argument("message", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--suspended", is_flag=True, help="List the releases that the broker no longer has.")
@socket_option
@json_option
def command(
    subject: str | None, message: Path | None, suspended: bool, control_socket: Path, as_json: bool
) -> None:
    """Explain a device's state, or what a message would do.

    With DEVICE: shows what was published for it, and what it does with each release. With TOPIC and
    MESSAGE, a file that holds the message as it would be published (patch version and firmware, or empty
    to withdraw): shows what each device would do. With --suspended: lists the releases that are not
    installed because the broker has them no longer. Nothing is stored or started.
    """
    if suspended == (subject is not None):
        raise click.UsageError("give a device, a topic with a message, or --suspended")
    if subject is None:
        found = ask(control_socket, build(Suspended), SuspendedResult)
        click.echo(found.model_dump_json()) if as_json else _print_suspended(found)
        return
    if message is None:
        device = ask(control_socket, build(ExplainDevice, device=subject), ExplainDeviceResult)
        click.echo(device.model_dump_json()) if as_json else _print_device(device)
        return
    with message.open("rb") as file:
        result = ask(control_socket, build(ExplainMessage, topic=subject), ExplainMessageResult, file)
    click.echo(result.model_dump_json()) if as_json else _print_message(result)


def _print_device(result: ExplainDeviceResult) -> None:
    echo(_headline(result.forecast), bold=True)
    echo(indented(printable(f"{result.forecast.code}: {result.forecast.reason}")))
    if result.paused is not None:
        echo(indented(f"paused by {result.paused.by} since {result.paused.since}"))
    echo()
    echo(indented(f"Follows {', '.join(result.forecast.topics)}", 0))
    for release in result.releases:
        echo(f"\n{printable(_release(release))}")
        echo(indented(printable(f"{release.code}: {release.reason}")))
    if not result.releases:
        echo("Nothing was published there.")
    if result.job is not None:
        job = result.job
        echo(f"\nLast job: {job.id}, {job.version} {job.state} (gatewayctl job {job.id})")


def _print_suspended(result: SuspendedResult) -> None:
    for release in result.releases:
        version = release.version or "version unknown"
        echo(printable(f"{release.topic}: {version}, {size(release.size_bytes)}"), bold=True)
        echo(indented(printable(f"{release.code} since {release.suspended_at}: {release.reason}")))
        echo(indented(f"for {', '.join(release.devices) or 'no device that is configured'}"))
    if result.releases:
        echo("\nThey continue when published again; `gatewayctl withdraw` withdraws one for good.")
    else:
        echo("Nothing is suspended.")


def _print_message(result: ExplainMessageResult) -> None:
    what = "an empty message, which withdraws the release" if result.withdraws else size(result.size_bytes)
    said = f", says that it is {', '.join(result.own_versions)}" if result.own_versions else ""
    echo(printable(f"{result.topic}: {what}{said}"), bold=True)
    concerned = [one for one in result.devices if one.follows or (result.withdraws and one.ends)]
    for forecast in concerned:
        echo(_headline(forecast))
        echo(indented(printable(f"{forecast.code}: {forecast.reason}")))
        if forecast.ends is not None:
            end = forecast.ends
            echo(indented(printable(f"job {end.job} would be {end.state}: {end.reason}")))
    for miss in result.near_misses:
        echo(printable(f"near miss: {miss}"))
    others = [one for one in result.devices if one not in concerned]
    for one in others[:_LISTED]:
        echo(f"{one.device}: not affected, it follows {', '.join(one.topics)}")
    if len(others) > _LISTED:
        echo(f"{plural(len(others) - _LISTED, 'more device')} not affected")


def _headline(forecast: Forecast) -> str:
    if forecast.would == "nothing" and forecast.code == Code.UPDATE:
        return f"{forecast.device}: has an update to {forecast.version}"
    if forecast.would != "nothing":
        verb = "would ask for approval of" if forecast.would == "ask for approval" else "would be updated to"
        return f"{forecast.device}: {verb} {forecast.version}"
    return f"{forecast.device}: {'refuses' if forecast.refused else 'nothing to do'}"


def _release(release: Assessment) -> str:
    version = release.version or "version unknown"
    origin = release.topic.replace("push:", "pushed to ", 1)
    return f"{origin}: {version}, {size(release.size_bytes)}, received {release.received_at}"
