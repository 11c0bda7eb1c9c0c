"""How job_service logs: one line an event, to standard error, for people or for machines.

What others sent is in there; it never starts a line of its own and never drives a terminal.
"""

import io
import logging
import sys
from typing import TextIO

import structlog

from job_service.settings import LogFormat, LogLevel


def configure(level: LogLevel, form: LogFormat) -> None:
    """Send what structlog and the standard library log to standard error."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    rendering: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if form is LogFormat.JSON
        else [
            _printable_values,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=_indented_traceback
            ),
        ]
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    handler.addFilter(_worth_a_line)
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    if level is not LogLevel.DEBUG:
        # Announces every connection; what it migrates is logged by the caller.
        logging.getLogger("alembic").setLevel(logging.WARNING)


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
