"""What the parts of the benchmark have in common: how much to measure, how to sum it up, how to show it."""

import statistics
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Scale:
    """How much to measure. Quick: small images and one run, to see that everything works."""

    runs: int = 3
    is_quick: bool = False


@dataclass(frozen=True)
class Section:
    """One part: `key` of build/bench.json; what `run` returns goes there and to `table`, for markdown."""

    key: str
    title: str
    run: Callable[[Scale], Awaitable[Any]]
    table: Callable[[Any], str]


def spread(name: str, values: Sequence[float], digits: int) -> dict[str, float]:
    """Return the median under its name, with the lowest and the highest."""
    figures = {name: statistics.median(values), "lowest": min(values), "highest": max(values)}
    return {key: round(value, digits) for key, value in figures.items()}


def markdown(heads: str, rows: Iterable[Iterable[object]]) -> str:
    """Return a table; `heads` are separated by commas, those with a colon at the end are numbers."""
    names = [name.strip() for name in heads.split(",")]
    lines = [[name.rstrip(":") for name in names], ["--:" if name.endswith(":") else "---" for name in names]]
    lines += [[str(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def percents(row: dict[str, float], name: str) -> list[str]:
    """Return median, lowest and highest of a row for a table."""
    return [f"{row[key]:.1%}" for key in (name, "lowest", "highest")]


def figures(row: dict[str, float], name: str, digits: int) -> list[str]:
    """Return median, lowest and highest of a row for a table."""
    return [f"{row[key]:.{digits}f}" for key in (name, "lowest", "highest")]
