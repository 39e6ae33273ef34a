"""Standard output of every program here: an output that cannot be written is one line and an exit code.

A command's result that got lost is a failure, and never a stack trace. Python alone leaves three traps: a
failed write is an `OSError` like any other, what stayed in the buffer fails again when the interpreter ends
(exit code 120), and with `>&-` the next file that is opened becomes descriptor 1.
"""

import contextlib
import errno
import io
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

import click

from gatewayd.cli.exits import DONE, REFUSED

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STDOUT = 1


class OutputLost(OSError):  # noqa: N818 - not an error of the command's own
    """Standard output cannot be written. Not for commands to handle: `run` does."""


class _Output(io.FileIO):
    """Descriptor 1. The first write that fails raises OutputLost; later ones, and their data, are dropped."""

    failure: OSError | None = None

    def write(self, data: "ReadableBuffer", /) -> int:
        """See io.RawIOBase."""
        if self.failure is not None:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            raise OutputLost(error.errno, error.strerror) from error


def run(program: str, body: Callable[[], object], *, needs_output: bool = True) -> None:
    """Run a program's body, and see its output written; ends the process unless all is well.

    An output that cannot be written ends it with REFUSED, or with the body's own code if that failed as well.
    A closed one does so before the body runs if the program `needs_output`. Only a reader that has gone away
    (`| head`) is not worth a word.
    """
    if sys.stdout is None and needs_output:
        _tell(program, "standard output is closed (to discard what is printed, redirect it to /dev/null)")
        sys.exit(REFUSED)
    output = _take_over()
    code: object = DONE
    try:
        body()
    except OutputLost:
        code = REFUSED
    except SystemExit as exit_:
        code = exit_.code
    if output is not None:
        with contextlib.suppress(OutputLost):
            sys.stdout.flush()
        if output.failure is not None:
            code = code or REFUSED
            _report(program, output.failure)
    if code:
        sys.exit(code)  # type: ignore[arg-type]  # what SystemExit had


def _take_over() -> _Output | None:
    """Put an `_Output` under `sys.stdout`; leaves one alone that is not the process's own."""
    before: TextIO | None = sys.stdout
    if before is None or before is not sys.__stdout__ or not isinstance(before, io.TextIOWrapper):
        return None
    before.flush()
    output = _Output(_STDOUT, "wb", closefd=False)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(output),
        encoding=before.encoding,
        errors=before.errors,
        line_buffering=before.line_buffering,
        write_through=before.write_through,
    )
    return output


def _report(program: str, failure: OSError) -> None:
    if failure.errno != errno.EPIPE:
        more = "(what it printed is incomplete; what it did stays done)"
        _tell(program, f"cannot write to standard output: {failure.strerror} {more}")


def _tell(program: str, text: str) -> None:
    with contextlib.suppress(OSError):  # nobody can be told; the exit code remains
        click.echo(f"{program}: {text}", err=True)
