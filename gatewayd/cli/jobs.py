"""`gatewayctl jobs` and `gatewayctl job`: the history of updates, with every attempt."""

from pathlib import Path

import click

from gatewayd.cli.formatting import because, columns, duration, echo, indented, plural, printable, size
from gatewayd.cli.options import device_argument, json_option, socket_option
from gatewayd.control.client import ask
from gatewayd.control.messages import AttemptView, JobResult, JobsResult, JobView
from gatewayd.control.parse import build
from gatewayd.control.requests import Jobs, OneJob

# The longest label with blanks around it; leaves room for a SHA-256 of 64 digits.
_FACTS_COLUMN = 13


@click.command("jobs")
@device_argument("device", required=False)
@click.option("--active", is_flag=True, help="Only jobs that have not ended.")
@click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="List at most this many."
)
@socket_option
@json_option
def jobs(device: str | None, active: bool, limit: int, control_socket: Path, as_json: bool) -> None:
    """List the latest jobs of all devices, or of one, newest first.

    A job is one update of one device. The last 50 of each device are kept.
    """
    result = ask(control_socket, build(Jobs, device=device, active=active, limit=limit), JobsResult)
    if as_json:
        click.echo(result.model_dump_json())
        return
    if not result.jobs:
        echo("There are no such jobs.")
        return
    heading = ["JOB", "DEVICE", "FROM", "TO", "STATE", "SIZE", "TOOK", "RESUMES", "CHANGED"]
    lines = columns([heading, *(_row(job) for job in result.jobs)])
    echo(lines[0], bold=True)
    for line, job in zip(lines[1:], result.jobs, strict=True):
        echo(line)
        if job.code:
            echo(indented(printable(because(job.code, job.reason))))


@click.command("job")
@click.argument("number", metavar="ID", type=click.IntRange(1, 2**63 - 1))
@socket_option
@json_option
def job(number: int, control_socket: Path, as_json: bool) -> None:
    """Show a job's history: why it was created, and how each attempt ended."""
    result = ask(control_socket, build(OneJob, id=number), JobResult)
    if as_json:
        click.echo(result.model_dump_json())
        return
    one = result.job
    echo(f"Job {one.id}: {one.device} from {one.from_version} to {one.version}, {one.state}", bold=True)
    if one.code:
        echo(indented(printable(because(one.code, one.reason))))
    facts = {
        "created": f"{one.created_at}: {one.decision}",
        "changed": one.updated_at,
        "image": f"{size(one.image_bytes)}, SHA-256 {one.image_sha256}" if one.image_sha256 else "-",
        "received": f"{size(one.durable_bytes)} of {size(one.image_bytes)}" if one.image_bytes else "-",
        "transfers": f"{one.transfers}, resumed {plural(one.resumes, 'time')}",
    }
    for label, text in facts.items():
        echo(indented(printable(text), _FACTS_COLUMN, label=f"  {label}"))
    echo()
    _print_attempts(result.attempts)


def _print_attempts(attempts: tuple[AttemptView, ...]) -> None:
    if not attempts:
        echo("No attempt was made yet.")
        return
    heading = ["ATTEMPT", "BEGUN", "TOOK", "FROM", "REACHED", "SENT", "AGAIN", "RESUMES", "END"]
    lines = columns([heading, *(_attempt_row(attempt) for attempt in attempts)])
    echo(lines[0], bold=True)
    for line, attempt in zip(lines[1:], attempts, strict=True):
        echo(line)
        if attempt.reason:
            echo(indented(printable(attempt.reason)))


def _row(job: JobView) -> list[str]:
    took = duration(job.duration_s) if job.duration_s else "-"
    return [
        str(job.id),
        job.device,
        job.from_version,
        job.version,
        job.state,
        size(job.image_bytes),
        took,
        str(job.resumes),
        f"{job.updated_at[:10]} {job.updated_at[11:16]}Z",
    ]


def _attempt_row(attempt: AttemptView) -> list[str]:
    number = f"{attempt.number}" if attempt.times == 1 else f"{attempt.number} ({attempt.times} times)"
    moved, is_over = attempt.offset is not None, attempt.ended_at is not None
    end = attempt.code or ("done" if is_over else "under way")
    return [
        number,
        f"{attempt.started_at[11:19]}Z",
        duration(attempt.duration_s),
        size(attempt.offset) if moved else "-",
        size(attempt.received_bytes) if moved else "-",
        size(attempt.bytes_sent) if moved else "-",
        size(attempt.bytes_repeated) if moved else "-",
        str(attempt.resumes),
        end,
    ]
