"""An import or an undo that is killed and run again ends as one that was left alone."""

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, make_url

from tests.legacy_import.importing import Move
from tests.legacy_import.multiplying import multiply
from tests.legacy_import.samples import SHAPES, sample
from tests.legacy_import.snapshot import differences, snapshot
from tests.postgres_fixture import new_database, plain_url

pytestmark = pytest.mark.timeout(900)

#: Each row of the sample so often: enough for many batches.
TIMES = 30


class Copies:
    """Copies of one former installation, each to be moved on its own."""

    def __init__(self, server: URL, original: URL, folder: Path, *, in_place: bool) -> None:
        self._server = server
        self._original = original
        self._folder = folder
        self._in_place = in_place
        self._stack = ExitStack()

    def __enter__(self) -> "Copies":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def move(self) -> Move:
        """The next copy."""
        old = self._database(self._original.database)
        return Move(old, old if self._in_place else self._database(), self._folder)

    def _database(self, template: str | None = None) -> str:
        url = self._stack.enter_context(new_database(self._server, template=template))
        return plain_url(url)


@pytest.fixture(params=["in place", "from"])
def copies(request: pytest.FixtureRequest, server: URL, tmp_path: Path) -> Iterator[Copies]:
    content = sample(SHAPES["B"])
    with new_database(server) as original:
        plain = plain_url(original)
        with psycopg.connect(plain) as connection:
            content.build(connection)
            multiply(connection, content, TIMES)
        in_place = request.param == "in place"
        with Copies(server, make_url(plain), tmp_path, in_place=in_place) as made:
            yield made


ARGUMENTS = ("--batch", "20", "--cutover")


@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(range(2), marks=pytest.mark.heavy, id="a few seeds"),
        pytest.param(range(2, 13), marks=pytest.mark.former, id="many seeds"),
    ],
)
def test_killed_at_any_point_and_run_again(seeds: range, copies: Copies) -> None:
    left_alone = copies.move()
    began = time.monotonic()
    left_alone.run(*ARGUMENTS)
    seconds = time.monotonic() - began
    expected = end_state(left_alone.target)
    assert len(expected) > 10 * TIMES

    for seed in seeds:
        chance = random.Random(seed)
        move = copies.move()
        process = move.start(*ARGUMENTS)
        time.sleep(chance.uniform(0.1, 1) * seconds)
        process.kill()
        process.communicate()
        outcome = move.run(*ARGUMENTS)
        assert outcome.report is not None
        assert outcome.report["verified"], f"seed {seed}"
        assert end_state(move.target) == expected, f"seed {seed}"


@pytest.mark.former
def test_an_undo_is_killed_at_any_point_and_run_again(copies: Copies) -> None:
    left_alone = copies.move()
    with psycopg.connect(left_alone.old) as connection:
        before = snapshot(connection)
    left_alone.run(*ARGUMENTS)
    began = time.monotonic()
    left_alone.run("--undo")
    seconds = time.monotonic() - began

    for seed in range(5):
        move = copies.move()
        move.run(*ARGUMENTS)
        process = move.start("--undo")
        time.sleep(random.Random(seed).uniform(0.1, 1) * seconds)
        process.kill()
        process.communicate()
        # When it was killed at its very end there is nothing left to undo.
        again = move.run("--undo", succeeds=False)
        assert "Traceback" not in again.complaints, f"seed {seed}"
        with psycopg.connect(move.old) as connection:
            assert differences(before, snapshot(connection)) == [], f"seed {seed}"
        if not move.in_place:
            assert end_state(move.target) == [], f"seed {seed}"


def end_state(database: str) -> list[Any]:
    """Every job with its files, but for what counts transactions and tries."""
    with psycopg.connect(database) as connection:
        return connection.execute(
            """
            SELECT to_jsonb(job) - '{changed_xid,revision,route_key}'::text[], (
                SELECT needs FROM route_keys WHERE route_keys.id = job.route_key
            ), (
                SELECT jsonb_agg(to_jsonb(file) - 'id' - 'created_at' ORDER BY role, position)
                FROM job_artifacts AS file WHERE file.job_id = job.id
            ) FROM generation_jobs AS job ORDER BY id
            """
        ).fetchall()
