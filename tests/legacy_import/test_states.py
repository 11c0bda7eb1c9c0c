"""Every former row is reachable with all its values, whatever state the schema was in."""

import psycopg
import pytest

from tests.legacy_import.conftest import Settle
from tests.legacy_import.old_content import stored
from tests.legacy_import.oracle import nothing_is_lost
from tests.legacy_import.reading import created, reading
from tests.legacy_import.report_check import agrees
from tests.legacy_import.samples import SHAPES, sample


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("A", "B", "C") else pytest.mark.former)
        for name in SHAPES
    ],
)
async def test_every_value_is_reachable(name: str, settle: Settle) -> None:
    content = sample(SHAPES[name])
    move = settle(content)
    with psycopg.connect(move.old) as connection:
        old = stored(connection)

    outcome = move.run("--cutover")
    new = await reading(move.target, move.folder, list(old.requests))
    nothing_is_lost(old, new)
    agrees(outcome, content, new)

    job = await created(move.target, move.folder)
    assert job.id > max(new.jobs)
