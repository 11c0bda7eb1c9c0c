"""Former installations of every shape with values of every kind: each is reachable."""

import asyncio
from dataclasses import replace
from typing import Final

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import URL

from tests.legacy_import.old_content import OldContent, stored
from tests.legacy_import.old_rows import contents
from tests.legacy_import.old_shape import OldShape, State
from tests.legacy_import.oracle import nothing_is_lost
from tests.legacy_import.reading import reading
from tests.legacy_import.report_check import agrees
from tests.legacy_import.samples import sample
from tests.legacy_import.test_there_and_back import move_of

pytestmark = [
    pytest.mark.former,
    pytest.mark.timeout(900),
    # of prompts of 20,000 characters
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),
]


_SAMPLE: Final = sample(OldShape(state=State.A, request_table=False))
#: What is there of parameters is no object, in every row.
NO_OBJECTS: Final = replace(
    _SAMPLE, jobs=[{**row, "parameters": "false"} for row in _SAMPLE.jobs[:2]]
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow,
                           HealthCheck.data_too_large],
)  # fmt: skip
@example(content=NO_OBJECTS, in_place=True)
@given(content=contents(), in_place=st.booleans())
def test_every_value_of_any_installation_is_reachable(
    server: URL, content: OldContent, in_place: bool
) -> None:
    with move_of(server, content, in_place=in_place) as move:
        with psycopg.connect(move.old) as connection:
            before = stored(connection)
        outcome = move.run("--cutover")
        found = asyncio.run(reading(move.target, move.folder, list(before.requests)))
        nothing_is_lost(before, found)
        agrees(outcome, content, found)
