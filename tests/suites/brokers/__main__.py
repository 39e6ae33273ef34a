"""`make brokers`: the whole job at each broker that apt, pip and npm bring, into docs/brokers.md."""

import asyncio
import re
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from lab.tree import ROOT

from suites.brokers.job import NotSeenError, Row, run
from suites.brokers.servers import KINDS, Kind, MissingError, Server

PAGE = ROOT / "docs" / "brokers.md"
_ONE_PORT_AT_A_TIME = threading.Lock()
BEGIN, END = "<!-- make brokers begins -->", "<!-- make brokers ends -->"


def table(rows: list[Row]) -> str:
    """Return the matrix: a line a step, a column a broker."""
    steps: list[str] = []
    for row in rows:
        steps += [step for step in row.cells if step not in steps]
    lines = [
        "| | " + " | ".join(f"{row.broker} {row.version}" for row in rows) + " |",
        "|---" * (len(rows) + 1) + "|",
        *("| " + " | ".join([step, *(row.cells.get(step, "-") for row in rows)]) + " |" for step in steps),
    ]
    return "\n".join(lines)


def into_page(text: str, page: str) -> str:
    """Return the page with the table in its place."""
    return re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{text}\n{END}", page, flags=re.DOTALL)


def one(kind: Kind) -> Row:
    """Do the whole job at one broker. Raises MissingError."""
    row = Row(kind.name, kind.version())
    with tempfile.TemporaryDirectory(prefix="gatewayd-brokers-") as folder:
        with _ONE_PORT_AT_A_TIME:
            server = Server(kind, Path(folder) / "broker")
        gateway = Path(folder) / "gateway"
        gateway.mkdir()
        try:
            asyncio.run(run(server, row, gateway, click.echo))
        except NotSeenError as error:
            row.cells["MQTT"] = f"**no**: {error}"
        finally:
            server.clean()
    return row


def attempt(kind: Kind) -> Row | str:
    """Do the whole job at one broker, or say why not."""
    try:
        return one(kind)
    except MissingError as error:
        return f"{kind.name}: not run, {error}"


@click.command()
@click.option("--only", multiple=True, help="A broker, by the beginning of its name.")
@click.option("--write", is_flag=True, help="Put the table into docs/brokers.md, unless --only.")
@click.option("--at-once", default=1, show_default=True, help="How many brokers.")
def main(only: tuple[str, ...], write: bool, at_once: int) -> None:
    """Do the whole job at each broker, and print the table."""
    kinds = [
        kind
        for kind in KINDS
        if not only or kind.name.lower().startswith(tuple(name.lower() for name in only))
    ]
    with ThreadPoolExecutor(at_once) as pool:
        found = list(pool.map(attempt, kinds))
    rows = [row for row in found if isinstance(row, Row)]
    missing = [line for line in found if isinstance(line, str)]
    click.echo("\n".join([table(rows), *missing]))
    if write and not only:
        PAGE.write_text(
            into_page("\n".join([table(rows), *(f"\n{line}" for line in missing)]), PAGE.read_text())
        )


if __name__ == "__main__":
    main()
