"""What others sent is in the log, but never a line of its own, and never drives a terminal."""

import json
import subprocess
import sys

import pytest

from tests.hostile_text import KINDS, hostile_texts

_LOGGING = """
import logging, sys
import structlog
from {package} import log_output
from {package}.settings import LogFormat, LogLevel
from tests.hostile_text import hostile_texts

log_output.configure(LogLevel.INFO, LogFormat.{form})
log = structlog.get_logger()
for text in hostile_texts():
    log.warning("call refused", message=text, listed=[text], named={{text: text}})
    logging.getLogger("aiohttp.server").warning("Error handling request from %s", text)
    logging.getLogger("asyncio").warning(text.replace("%", "%%"))
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("call failed")
"""
TEXTS = hostile_texts()


def logged(package: str, form: str) -> str:
    script = _LOGGING.format(package=package, form=form)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert not done.stdout
    return done.stderr


@pytest.mark.parametrize("package", ["job_service", "comfy_worker"])
def test_as_json_every_event_is_one_line_that_holds_the_text(package: str) -> None:
    lines = logged(package, "JSON").removesuffix("\n").split("\n")
    events = [json.loads(line) for line in lines]
    assert len(events) == 4 * len(TEXTS)
    assert [event["message"] for event in events[::4]] == TEXTS
    assert {event["level"] for event in events} == {"warning", "error"}
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("package", ["job_service", "comfy_worker"])
def test_for_people_every_event_is_one_line_that_drives_no_terminal(package: str) -> None:
    lines = logged(package, "CONSOLE").removesuffix("\n").split("\n")
    assert all(line.isprintable() for line in lines), [x for x in lines if not x.isprintable()][:3]
    events = [line for line in lines if not line.startswith("    ")]  # others are of tracebacks
    assert len(events) == 4 * len(TEXTS)
    assert all(" [warning  ] " in line or " [error    ] " in line for line in events)


def test_there_are_texts_of_every_kind() -> None:
    assert all(len(texts) >= 4 for texts in KINDS.values())
