"""What others sent is in the log, but never a line of its own, and never drives a terminal."""

import json
import re
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


_TOGETHER = """
import logging
import structlog
from job_service import log_output
from job_service.settings import LogFormat, LogLevel

log_output.configure(LogLevel.INFO, LogFormat.{form})
for log in structlog.get_logger("audit"), logging.getLogger("audit"):
    log.debug("not shown")
    log.info("%s of %s", "one", 2)
    try:
        raise ValueError("text")
    except ValueError:
        log.exception("failed")
structlog.get_logger().info("of the module")
"""


@pytest.mark.parametrize("form", ["JSON", "CONSOLE"])
def test_lines_look_alike_whoever_writes_them(form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _TOGETHER.format(form=form)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    *lines, unnamed = re.sub(r"20[-0-9]+T[0-9:.]+Z|line \d+", "…", done.stderr).splitlines()
    half = len(lines) // 2
    ours, theirs = lines[:half], lines[half:]
    if form == "JSON":
        assert list(map(json.loads, ours)) == list(map(json.loads, theirs))
        assert json.loads(unnamed)["logger"] == "__main__"
    else:
        assert ours == theirs
        assert " [info     ] one of 2                       [audit]" in ours[0]
        assert unnamed.endswith("[__main__]")
    assert "not shown" not in done.stderr


_FAILING = """
import time
import structlog
from job_service import log_output
from job_service.settings import LogFormat, LogLevel

now = 0.0
time.monotonic = lambda: now
log_output.configure(LogLevel.INFO, LogFormat.JSON)
log = structlog.get_logger("loop")
for now in range(70):
    log.warning("claiming failed", error="no database", attempt=now)
    log.warning("sweep failed", of="inputs" if now % 2 else "jobs", error="no database")
    log.warning("who is told every time", now=now)
    log.error("a bug", error="no database")
    if now == 40:
        log.warning("claiming failed", error="another reason")
for number in range(10_000):
    log.warning("claiming failed", error=str(number))
log.warning("claiming failed", error="9999")
log.warning("claiming failed", error="0")
"""


def test_a_failure_that_is_repeated_is_told_of_every_half_minute() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FAILING], capture_output=True, text=True, timeout=60, check=True
    )
    said = [json.loads(line) for line in done.stderr.splitlines()]
    for event in ("who is told every time", "a bug"):
        assert sum(line["event"] == event for line in said) == 70
    same = [line for line in said if line.get("error") == "no database"]
    claiming = [line for line in same if line["event"] == "claiming failed"]
    assert [(line["attempt"], line.get("left_out")) for line in claiming] == [
        (0, None),
        (30, 29),
        (60, 29),
    ]
    swept = [(line["of"], line.get("left_out")) for line in same if line["event"] == "sweep failed"]
    assert swept == [
        *(("jobs", None), ("inputs", None)),
        *(("jobs", 14), ("inputs", 14)),
        *(("jobs", 14), ("inputs", 14)),
    ]
    assert sum(line.get("error") == "another reason" for line in said) == 1
    # However many reasons there are, the newest are remembered.
    assert [sum(line.get("error") == str(n) for line in said) for n in (9999, 0)] == [1, 2]


def test_there_are_texts_of_every_kind() -> None:
    assert all(len(texts) >= 4 for texts in KINDS.values())
