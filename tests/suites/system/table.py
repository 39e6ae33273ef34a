"""What was shown, in how many seconds, and what was not."""

import contextlib
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

import click


@dataclass
class Row:
    """One line of the table, printed when it ends."""

    title: str
    note: str = ""


class Table:
    """Rows as they come; `has_failed` as soon as one has."""

    def __init__(self) -> None:
        self.has_failed = False
        self._begun = time.monotonic()
        self._shown = 0

    @contextlib.contextmanager
    def row(self, title: str) -> Iterator[Row]:
        """Time what is in the block; a failure in it is told, and ends here."""
        row, begun = Row(title), time.monotonic()
        try:
            yield row
        except Exception as error:  # noqa: BLE001 - told here, whatever it is
            self.has_failed = True
            row.note = str(error) or type(error).__name__
            traceback.print_exc()
        else:
            self._shown += 1
        verdict = "FAILED" if self.has_failed else "ok"
        click.echo(f"{verdict:6} {time.monotonic() - begun:6.1f} s  {title}")
        for line in row.note.splitlines()[:20]:
            click.echo(f"{'':16} {line}")

    def sum_up(self, planned: int) -> None:
        """Say how it went."""
        took_s = time.monotonic() - self._begun
        missing = f", {planned - self._shown} not" if self._shown < planned else ""
        click.echo(f"{self._shown} of {planned} shown{missing}, {took_s:.0f} s in all")
