"""Former installations of every shape with values of every kind: each is reachable."""

import asyncio
import tempfile
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import URL

from tests.legacy_import.importing import Move
from tests.legacy_import.old_content import OldContent, stored
from tests.legacy_import.old_rows import contents
from tests.legacy_import.oracle import nothing_is_lost
from tests.legacy_import.reading import reading
from tests.legacy_import.report_check import agrees
from tests.postgres_fixture import new_database

pytestmark = [
    pytest.mark.former,
    pytest.mark.timeout(900),
    # of prompts of 20,000 characters
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),
]


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow,
                           HealthCheck.data_too_large],
)  # fmt: skip
@given(content=contents(), in_place=st.booleans())
def test_every_value_of_any_installation_is_reachable(
    server: URL, content: OldContent, in_place: bool
) -> None:
    with new_database(server) as first, new_database(server) as second:
        old, new = (
            url.set(drivername="postgresql").render_as_string(hide_password=False)
            for url in (first, second)
        )
        with psycopg.connect(old) as connection:
            content.build(connection)
            before = stored(connection)
        with tempfile.TemporaryDirectory() as folder:
            move = Move(old, old if in_place else new, Path(folder))
            outcome = move.run("--cutover")
            found = asyncio.run(reading(move.target, move.folder, list(before.requests)))
            nothing_is_lost(before, found)
            agrees(outcome, content, found)
