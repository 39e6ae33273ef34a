"""Standard output and error of every program here: an output that is lost is one line and an exit code.

A command's result that got lost is a failure, and never a stack trace. Python alone leaves three traps: a
failed write is an `OSError` like any other, what stayed in the buffer fails again when the interpreter ends
(exit code 120), and with `>&-` the next file that is opened becomes descriptor 1.
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
    """Standard output cannot be written. Not for commands to handle: `run` does."""


class _Output(io.FileIO):
    """Standard output. The first write that fails raises OutputLost; what is written after it is dropped."""

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
    """Standard error. What cannot be written is dropped: nobody can be told."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """See io.RawIOBase."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def run(program: str, body: Callable[[], object], *, needs_output: bool = True) -> None:
    """Run a program's body, and see its output written; ends the process unless all is well.

    An output that cannot be written ends it with REFUSED, or with the body's own code if that failed as well.
    A closed one does so before the body runs if the program `needs_output`. Only a reader that has gone away
    (`| head`) is not worth a word.
    """
    if sys.stdout is None and needs_output:
        _tell(program, "standard output is closed (to discard what is printed, redirect it to /dev/null)")
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
    """Put a file of ours under `sys.stdout` or `sys.stderr`, unless that is not the process's own."""
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
        _tell(program, f"cannot write to standard output: {failure.strerror} {more}")


def _tell(program: str, text: str) -> None:
    click.echo(f"{program}: {text}", err=True)
