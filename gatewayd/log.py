"""Logging: fields for the journal, lines for people on a terminal, JSON otherwise.

Each line names its device and job where it has one. What libraries log is among it.
"""

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

# structlog loads rich for traces in colour if it finds it: 80 modules and 4 MiB that a daemon has no use for.
_rich = sys.modules.get("rich")
sys.modules["rich"] = None  # type: ignore[assignment]  # what makes `import rich` fail
import structlog  # noqa: E402 - see above

del sys.modules["rich"]
if _rich is not None:
    sys.modules["rich"] = _rich

from gatewayd.systemd import journal  # noqa: E402 - it imports structlog

# The factory of the loggers that write, and the processors that format an event.
Way = tuple[Callable[..., Any], list[structlog.typing.Processor]]


def configure(level: int = logging.INFO) -> None:
    """Set structlog up for this process; lines go to standard error, or to the journal behind it."""
    write, ending = _to_journal() if is_journal() else _to_stream()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _drop_empty,
            *ending,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=write,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_FromLibraries()], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)


def write(level: int, text: str, code: str | None = None) -> None:
    """Write a line; `code` says what it is about."""
    structlog.get_logger().log(level, text, code=code)


def is_journal() -> bool:
    """Whether standard error goes to the journal."""
    return journal.is_behind(sys.stderr, os.environ.get("JOURNAL_STREAM"))


def _to_journal() -> Way:
    line = journal.Journal(sys.stderr)
    return lambda *_: line, [structlog.processors.format_exc_info, journal.as_fields]


def _to_stream() -> Way:
    ending: list[structlog.typing.Processor] = [structlog.processors.TimeStamper(fmt="iso", utc=True)]
    if sys.stderr.isatty():
        ending += [structlog.dev.ConsoleRenderer()]
    else:
        ending += [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(sort_keys=False),
        ]
    return structlog.PrintLoggerFactory(sys.stderr), ending


class _FromLibraries(logging.Handler):
    """What asyncio, bleak and the like have to say goes the way of our own lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a record on."""
        try:
            log = structlog.get_logger()
            log.log(record.levelno, record.getMessage(), library=record.name, exc_info=record.exc_info)
        except Exception:  # noqa: BLE001 - as logging has it: what cannot be told must not break who tells it
            self.handleError(record)


def _drop_empty(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return {key: value for key, value in event.items() if value is not None}
