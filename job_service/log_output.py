"""How job_service logs: one line an event, to standard error, for people or for machines.

What others sent is in there; it never starts a line of its own and never drives a terminal.
"""

import io
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Final, TextIO

import structlog

from job_service.settings import LogFormat, LogLevel


def configure(level: LogLevel, form: LogFormat) -> None:
    """Send what structlog and the standard library log to standard error."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    rendering: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if form is LogFormat.JSON
        else [
            _printable_values,
            structlog.dev.ConsoleRenderer(
                columns=None if sys.stderr.isatty() else _PLAIN_COLUMNS,
                exception_formatter=_indented_traceback,
            ),
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    handler.addFilter(_worth_a_line)
    number = logging.getLevelName(level.upper())
    structlog.configure(
        processors=[*shared, _RepeatedFailures(), *rendering],
        logger_factory=_Lines(handler),
        wrapper_class=structlog.make_filtering_bound_logger(number),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    if level is not LogLevel.DEBUG:
        # Announces every connection; what it migrates is logged by the caller.
        logging.getLogger("alembic").setLevel(logging.WARNING)


class _RepeatedFailures:
    """Leaves out warnings of a failure that the log has told of within half a minute.

    Every loop of the service that meets a database which cannot be reached tries again each second
    or so. The next line like it says as ``left_out`` how many there would have been.
    """

    def __init__(self) -> None:
        self._told_at: dict[tuple[object, ...], float] = {}
        self._left_out: Counter[tuple[object, ...]] = Counter()

    def __call__(
        self, _logger: structlog.typing.WrappedLogger, level: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        if level != "warning" or "error" not in event:
            return event
        now = time.monotonic()
        failure = tuple(event.get(key) for key in ("logger", "event", "of", "error"))
        if now - self._told_at.get(failure, float("-inf")) < _BETWEEN_EQUAL_FAILURES:
            self._left_out[failure] += 1
            raise structlog.DropEvent
        if failure not in self._told_at and len(self._told_at) == _MOST_FAILURES:
            oldest = min(self._told_at, key=self._told_at.__getitem__)
            del self._told_at[oldest], self._left_out[oldest]
        self._told_at[failure] = now
        if left_out := self._left_out.pop(failure, 0):
            event["left_out"] = left_out
        return event


_BETWEEN_EQUAL_FAILURES: Final = 30.0
_MOST_FAILURES: Final = 100
"""Of which it is remembered when they were told of."""


class _Lines:
    """Makes loggers that write to a handler's stream, in turn with the handler.

    Not by way of its records: making one and copying it twice takes longer than all else about a
    line, and every call that changes something is one.
    """

    def __init__(self, handler: "logging.StreamHandler[TextIO]") -> None:
        self._handler = handler
        self._named = structlog.stdlib.LoggerFactory(ignore_frame_names=[__name__])

    def __call__(self, *args: Any) -> "_Line":
        return _Line(self._named(*args).name, self._write)

    def _write(self, line: str) -> None:
        with self._handler.lock or nullcontext():
            self._handler.stream.write(f"{line}\n")
            self._handler.flush()


class _Line:
    """What structlog calls with a line that is ready, by the name of its level."""

    def __init__(self, name: str, write: Callable[[str], None]) -> None:
        self.name = name
        self.debug = self.info = self.warning = self.error = self.critical = write


def _worth_a_line(record: logging.LogRecord) -> bool:
    """Whether a record says something of the service, rather than of a caller.

    That a caller went away while it was answered, or sent metadata that is no text, grpc logs as an
    error with a traceback, as often as callers please.
    """
    if record.name != "grpc._cython.cygrpc" or not record.exc_info:
        return True
    kind = record.exc_info[0]
    return not (
        str(record.msg).startswith("Invalid encoding on")
        or (kind is not None and kind.__name__ == "ExecuteBatchError")
    )


def _plain(key: str, value: object) -> str:
    shown = value if isinstance(value, str) and not _QUOTED.intersection(value) else repr(value)
    return f"{key}={shown}"


_QUOTED: Final = frozenset(" \t=\r\n\"'")

#: As structlog has them, without the work that colours take.
_PLAIN_COLUMNS: Final = [
    structlog.dev.Column("timestamp", lambda _, value: str(value)),
    structlog.dev.Column("level", lambda _, value: f"[{value:9}]"),
    structlog.dev.Column("event", lambda _, value: f"{value!s:30}"),
    structlog.dev.Column("logger", lambda _, value: f"[{value}]"),
    structlog.dev.Column("", _plain),
]


def _printable_values(
    _logger: structlog.typing.WrappedLogger, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return {
        key: _printable(value) if isinstance(value, str) else value for key, value in event.items()
    }


def _printable(text: str) -> str:
    """The text with every character escaped that is none to look at, if there is one."""
    return text if text.isprintable() else repr(text)[1:-1]


def _indented_traceback(target: TextIO, exception: structlog.typing.ExcInfo) -> None:
    """Write a traceback without the values of variables, secrets among them.

    Indented, so that no line of an error's message looks like one of the log.
    """
    plain = io.StringIO()
    structlog.dev.plain_traceback(plain, exception)
    target.writelines(
        "\n    " + _printable(line) for line in filter(None, plain.getvalue().splitlines())
    )
