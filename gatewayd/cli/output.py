"""Standard output and error of every program here: lost output becomes one line and an exit code.

A command whose output is lost fails, but never with a stack trace. Python alone leaves three traps: a failed
write is an `OSError` like any other, the rest of the buffer fails again when the interpreter exits (exit code
120), and after `>&-` the next file that is opened becomes descriptor 1.
"""

import contextlib
import errno
import io
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeVar

import click

from gatewayd.cli.exits import DONE, REFUSED

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


_File = TypeVar("_File", bound=io.FileIO)


class OutputLost(OSError):  # noqa: N818 - not an error of the command's own
    """Standard output cannot be written. Commands do not handle it; `run_program` does."""


class _Output(io.FileIO):
    """Standard output. The first write that fails raises OutputLost; later writes are dropped."""

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


class _Errors(io.FileIO):
    """Standard error. Failed writes are dropped: there is nowhere to report them."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """See io.RawIOBase."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def run_program(program: str, body: Callable[[], object], *, needs_output: bool = True) -> None:
    """Run a program's body and flush its output; exit unless both succeed.

    Output that cannot be written leads to the exit code REFUSED, or to the body's own if that failed too.
    If the program `needs_output` and standard output is closed, it exits before the body runs. Nothing is
    printed if the reader has gone away (`| head`).
    """
    if sys.stdout is None and needs_output:
        _print_error(
            program, "standard output is closed (to discard what is printed, redirect it to /dev/null)"
        )
        sys.exit(REFUSED)
    output = _take_over("stdout", _Output)
    _take_over("stderr", _Errors)
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


def _take_over(name: Literal["stdout", "stderr"], kind: type[_File]) -> _File | None:
    """Replace the file under `sys.stdout` or `sys.stderr` by ours, unless somebody replaced it before."""
    before = getattr(sys, name)
    if before is not getattr(sys, f"__{name}__") or not isinstance(before, io.TextIOWrapper):
        return None
    before.flush()
    file = kind(before.fileno(), "wb", closefd=False)
    after = io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding=before.encoding,
        errors=before.errors,
        line_buffering=before.line_buffering,
        write_through=before.write_through,
    )
    setattr(sys, name, after)
    return file


def _report(program: str, failure: OSError) -> None:
    if failure.errno != errno.EPIPE:
        more = "(what it printed is incomplete; what it did stays done)"
        _print_error(program, f"cannot write to standard output: {failure.strerror} {more}")


def _print_error(program: str, text: str) -> None:
    click.echo(f"{program}: {text}", err=True)
