"""`make bench`: measures one section after the other; tables on screen, build/bench.json, build/bench.md."""

import asyncio
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from suites.bench import (
    cut,
    delays,
    disk,
    first_paint,
    goals,
    house,
    line,
    many,
    noise,
    radio,
    resources,
    smp_peer,
    smp_radio,
    smp_speed,
)
from suites.bench.section import Scale, Section

SECTIONS = (
    line.SECTION,
    noise.SECTION,
    many.SECTION,
    radio.SECTION,
    smp_peer.SECTION,
    smp_speed.SECTION,
    smp_radio.SECTION,
    cut.SECTION,
    resources.CPU,
    resources.MEMORY,
    disk.SECTION,
    delays.FIRST_DATA,
    delays.READY,
    house.SECTION,
    first_paint.SECTION,
)

BEGIN, END = "<!-- bench.md begins -->", "<!-- bench.md ends -->"


def about(scale: Scale) -> dict[str, Any]:
    """Return what the figures were measured on, and how many runs each is the median of."""
    return {
        "runs": scale.runs,
        "quick": scale.is_quick,
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def report(document: dict[str, Any], sections: Iterable[Section]) -> str:
    """Return the document as markdown: a table for each section that is in it, and the goals missed."""
    facts = ", ".join(f"{name} {value}" for name, value in document["about"].items())
    parts = [f"Measured with {facts}."]
    parts += [
        f"### {section.title}\n\n{section.table(document[section.key])}"
        for section in sections
        if section.key in document
    ]
    parts += [f"**{key} failed: there are no figures of it.**" for key in document.get("failed", [])]
    if not document["about"]["quick"]:  # small images say nothing of them
        missed = [f"- {miss}" for miss in goals.misses(document)]
        parts.append("### Goals missed\n\n" + ("\n".join(missed) or "None of those measured."))
    return "\n\n".join(parts) + "\n"


def put_between_marks(text: str, tables: str) -> str:
    """Return a document with the tables in place of what stood between its marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise click.ClickException(f"there is no {BEGIN} and {END} to put the tables between")
    return f"{before}{begin}\n{tables}{end}{after}"


async def measure(sections: Iterable[Section], scale: Scale) -> dict[str, Any]:
    """Run the sections one after the other; returns what build/bench.json holds, and names what failed."""
    document: dict[str, Any] = {"about": about(scale)}
    for section in sections:
        click.echo(f"{section.title} ...", err=True)
        began = time.monotonic()
        try:
            document[section.key] = await section.run(scale)
        except Exception:  # noqa: BLE001 - it must not cost the figures of the other sections
            traceback.print_exc()
            document.setdefault("failed", []).append(section.key)
        click.echo(f"  {time.monotonic() - began:.0f} s", err=True)
    return document


@click.command()
@click.option("--runs", type=click.IntRange(1), help="Runs to take the median of.  [default: 3, quick: 1]")
@click.option("--quick", is_flag=True, help="Small images: shows that it works, not how fast.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice([section.key for section in SECTIONS]),
    help="Only this section; may be repeated.",
)
@click.option(
    "-o", "--output", default="build/bench.json", show_default=True, type=click.Path(path_type=Path)
)
@click.option(
    "--into", type=click.Path(path_type=Path, exists=True), help="A document with marks, for the tables too."
)
def main(runs: int | None, only: tuple[str, ...], output: Path, into: Path | None, *, quick: bool) -> None:
    """Measure RCP, its peer and the daemon; tables go to the screen and beside OUTPUT as .md."""
    if into is not None:  # now, not after 20 minutes
        if quick or only:
            raise click.UsageError("--into takes the tables of a whole run, without --quick and --only")
        put_between_marks(into.read_text(), "")
    scale = Scale(runs or (1 if quick else 3), quick)
    chosen = [section for section in SECTIONS if not only or section.key in only]
    document = asyncio.run(measure(chosen, scale))
    text = report(document, chosen)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=2) + "\n")
    output.with_suffix(".md").write_text(text)
    click.echo(text)
    click.echo(f"{output}, {output.with_suffix('.md')}", err=True)
    if "failed" in document:
        sys.exit(1)
    if into is not None:
        into.write_text(put_between_marks(into.read_text(), text))


if __name__ == "__main__":
    main()
