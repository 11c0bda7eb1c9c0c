"""What is promised of every import, of each state on the oldest and the newest PostgreSQL.

Every row is reachable through the API with all its values, counts and checksums match, a second run
changes nothing, new jobs get ids above all, and an undo restores what was. The other tests of this
folder say each of it of more kinds of installations.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import URL

from tests.legacy_import.importing import Move
from tests.legacy_import.old_content import OldContent, stored
from tests.legacy_import.old_rows import contents, shapes
from tests.legacy_import.old_shape import OldShape, State
from tests.legacy_import.oracle import nothing_is_lost
from tests.legacy_import.reading import reading_and_creating
from tests.legacy_import.report_check import agrees
from tests.legacy_import.samples import SHAPES, sample
from tests.legacy_import.snapshot import differences, snapshot
from tests.postgres_fixture import new_database, plain_url

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(600),
    # of prompts of 20,000 characters
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),
]

#: Each costs some seconds: `make former` looks at many more.
GENERATED: Final = settings(
    max_examples=2,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def installations(state: State) -> st.SearchStrategy[OldContent]:
    """Of that state as it was meant to be, with serial or identity ids."""
    shape = st.builds(
        OldShape,
        state=st.just(state),
        identity=st.booleans(),
        json_type=st.sampled_from(["json", "jsonb"]),
        on_delete=st.sampled_from(["", "ON DELETE SET NULL"]),
    )
    return contents(shape, fewest=4)


@GENERATED
@example(content=sample(SHAPES["A"]), in_place=True)
@given(content=installations(State.A), in_place=st.booleans())
def test_state_a(server: URL, content: OldContent, *, in_place: bool) -> None:
    there_and_back(server, content, in_place=in_place)


@GENERATED
@example(content=sample(SHAPES["B"]), in_place=False)
@given(content=installations(State.B), in_place=st.booleans())
def test_state_b(server: URL, content: OldContent, *, in_place: bool) -> None:
    there_and_back(server, content, in_place=in_place)


@GENERATED
@example(content=sample(SHAPES["C"]), in_place=True)
@given(content=installations(State.C), in_place=st.booleans())
def test_state_c(server: URL, content: OldContent, *, in_place: bool) -> None:
    there_and_back(server, content, in_place=in_place)


@GENERATED
@example(content=sample(SHAPES["both column sets"]), in_place=True)
@given(content=contents(shapes(), fewest=4), in_place=st.booleans())
def test_a_mixture(server: URL, content: OldContent, *, in_place: bool) -> None:
    there_and_back(server, content, in_place=in_place)


def there_and_back(server: URL, content: OldContent, *, in_place: bool) -> None:
    """Import it, look at it, import it again, undo it."""
    with move_of(server, content, in_place=in_place) as move:
        with psycopg.connect(move.old, autocommit=True) as there:
            old, before = stored(there), snapshot(there)

        first = move.run("--cutover")
        new, created = asyncio.run(
            reading_and_creating(move.target, move.folder, list(old.requests))
        )
        nothing_is_lost(old, new)
        agrees(first, content, new)
        assert created.id > max([*new.jobs, *old.jobs], default=0)

        with psycopg.connect(move.target, autocommit=True) as here:
            imported = snapshot(here)
            second = move.run("--cutover")
            after = snapshot(here)
            assert differences(imported, after) == []
            assert imported.keys() == after.keys()
            assert second.report is not None
            assert second.report["verified"]

        move.run("--undo")
        with psycopg.connect(move.old, autocommit=True) as there:
            assert differences(before, snapshot(there)) == []
        if not in_place:
            with psycopg.connect(move.target) as here:
                left = here.execute("SELECT count(*) FROM generation_jobs").fetchone()
            assert left == (0,)


@contextmanager
def move_of(server: URL, content: OldContent, *, in_place: bool) -> Iterator[Move]:
    """The installation, made in a database of its own, and where it goes."""
    with (
        new_database(server) as first,
        new_database(server) as second,
        tempfile.TemporaryDirectory() as folder,
    ):
        old, new = (plain_url(url) for url in (first, second))
        with psycopg.connect(old) as connection:
            content.build(connection)
        yield Move(old, old if in_place else new, Path(folder))
