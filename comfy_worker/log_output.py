"""How comfy_worker logs: one line an event, to standard error, for people or for machines.

What others sent is in there; it never starts a line of its own and never drives a terminal.
"""

import io
import logging
import sys
from typing import TextIO

import structlog

from comfy_worker.settings import LogFormat, LogLevel


def configure(level: LogLevel, form: LogFormat) -> None:
    """Send what structlog and the standard library log to standard error."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
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
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)


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
