"""Figures and words as people read them, whatever the service sends."""

import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from generation_jobs.v1.job_error_pb2 import ErrorCode
from generation_jobs.v1.job_pb2 import JobStatus, PendingReason, ProgressPhase
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from job_service.client.cli.figures import age, between, duration, local_time
from job_service.client.cli.terminal_text import one_line, printable
from job_service.client.cli.words import DOING, STATUS_STYLES, WAITING_FOR, word, words

_NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def stamp(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3_599.6, "1 h 00 min"),
        (86_400, "1 d 0 h"),
        (100_000, "1 d 3 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("distance", "text"),
    [
        (timedelta(seconds=1), "just now"),
        (timedelta(seconds=-1), "just now"),
        (timedelta(seconds=59), "59 s ago"),
        (timedelta(minutes=5, seconds=59), "5 min ago"),
        (timedelta(hours=-2), "in 2 h"),
        (timedelta(days=400), "400 d ago"),
    ],
)
def test_ages(distance: timedelta, text: str) -> None:
    assert age(stamp(_NOW - distance), _NOW) == text


def test_between_two_moments() -> None:
    assert between(stamp(_NOW), stamp(_NOW + timedelta(seconds=3.2))) == "3.2 s"


def test_local_time() -> None:
    expected = _NOW.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    assert local_time(stamp(_NOW)) == expected


@given(st.text(st.characters()))
def test_printable_text_cannot_drive_a_terminal(text: str) -> None:
    shown = printable(text)
    assert all(unicodedata.category(c) not in {"Cc", "Cs"} for c in shown if c != "\n")
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert one_line(text).splitlines() in ([], [one_line(text)])


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_ordinary_text_stays(text: str) -> None:
    assert printable(f"{text} \n") == f"{text} \n"


def test_statuses_as_words() -> None:
    assert words(JobStatus) == {
        "pending": 1,
        "running": 2,
        "completed": 3,
        "failed": 4,
        "cancelled": 5,
    }


def test_values_of_a_newer_service_have_a_word() -> None:
    assert word(JobStatus, 99) == "unknown (99)"
    assert word(ErrorCode, ErrorCode.ERROR_CODE_OUT_OF_MEMORY) == "out_of_memory"
    assert word(JobStatus, JobStatus.JOB_STATUS_UNSPECIFIED) == "-"


def test_every_value_of_the_contract_has_its_words() -> None:
    assert set(STATUS_STYLES) == set(words(JobStatus).values())
    assert set(WAITING_FOR) == set(words(PendingReason).values())
    assert set(DOING) == set(words(ProgressPhase).values())
