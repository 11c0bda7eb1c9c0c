"""Where ``genjobs`` writes."""

import os
import sys

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from rich.console import Console

from job_service.client.cli.terminal_text import drives_terminal

# Columns of output that nobody's window limits, for example in a file.
_WIDE = 160


def stdout() -> Console:
    """Results, and progress."""
    unlimited = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(highlight=False, width=_WIDE if unlimited else None)


def stderr() -> Console:
    """Errors, and whatever must not get into results."""
    return Console(stderr=True, highlight=False)


def print_json(message: Message, *, on_one_line: bool = False) -> None:
    """Print protobuf JSON with the contract's field names."""
    text = MessageToJson(
        message,
        preserving_proto_field_name=True,
        indent=None if on_one_line else 2,
        ensure_ascii=(sys.stdout.encoding or "").lower().replace("-", "") != "utf8",
    )
    print(_escaped(text), flush=True)


def _escaped(text: str) -> str:
    r"""JSON in which ``\uXXXX`` stands for what could drive a terminal."""
    return "".join(
        f"\\u{ord(character):04x}" if drives_terminal(character) else character
        for character in text
    )
