"""Two imports of the same rows at once do it once."""

import psycopg
import pytest

from tests.legacy_import.conftest import Settle
from tests.legacy_import.multiplying import multiply
from tests.legacy_import.old_content import stored
from tests.legacy_import.oracle import nothing_is_lost
from tests.legacy_import.reading import reading
from tests.legacy_import.samples import SHAPES, sample

pytestmark = pytest.mark.former


async def test_two_importers_at_once(settle: Settle) -> None:
    content = sample(SHAPES["A"])
    move = settle(content)
    with psycopg.connect(move.old) as connection:
        multiply(connection, content, 3)
        old = stored(connection)
    processes = [move.start("--cutover", "--batch", "10") for _ in range(2)]
    ended = [(process.communicate(timeout=100)[1], process.returncode) for process in processes]
    assert 0 in [code for _, code in ended], ended
    for complaints, code in ended:
        if code:
            assert "another import" in complaints
            assert "Traceback" not in complaints
    again = move.run("--cutover")
    assert again.report is not None
    assert again.report["verified"]
    new = await reading(move.target, move.folder, list(old.requests))
    nothing_is_lost(old, new)
