"""What was imported can be given back: the former tables are as they were, row by row."""

import psycopg
import pytest

from tests.legacy_import.conftest import Settle
from tests.legacy_import.samples import SHAPES, sample
from tests.legacy_import.snapshot import differences, snapshot

pytestmark = pytest.mark.former


@pytest.mark.parametrize("name", SHAPES)
def test_undo_restores_the_former_tables(name: str, settle: Settle) -> None:
    move = settle(sample(SHAPES[name]))
    with psycopg.connect(move.old, autocommit=True) as connection:
        before = snapshot(connection)
        move.run("--cutover")
        move.run("--undo")
        assert differences(before, snapshot(connection)) == []


@pytest.mark.parametrize("settle", ["in place"], indirect=True)
@pytest.mark.parametrize("name", SHAPES)
def test_undo_restores_dropped_tables_from_the_dump(name: str, settle: Settle) -> None:
    move = settle(sample(SHAPES[name]))
    dump = move.folder / "former.dump"
    with psycopg.connect(move.old, autocommit=True) as connection:
        before = snapshot(connection)
        move.run("--cutover")
        move.run("--drop-legacy", "--dump", str(dump))
        assert dump.stat().st_size > 0
        rows = [table for table in snapshot(connection) if table.startswith("legacy.")]
        assert rows == []
        move.run("--undo", "--dump", str(dump))
        assert differences(before, snapshot(connection)) == []


def test_what_was_undone_can_be_imported_again(settle: Settle) -> None:
    move = settle(sample(SHAPES["A"]))
    first = move.run("--cutover")
    move.run("--undo")
    second = move.run("--cutover")
    assert first.report is not None
    assert second.report is not None
    assert second.report["checksums"] == first.report["checksums"]


@pytest.mark.parametrize("settle", ["in place"], indirect=True)
def test_nothing_is_dropped_before_the_cutover_or_without_a_dump(settle: Settle) -> None:
    move = settle(sample(SHAPES["A"]))
    dump = move.folder / "former.dump"
    with psycopg.connect(move.old, autocommit=True) as connection:
        move.run()
        before = snapshot(connection)
        for arguments in (["--drop-legacy"], ["--drop-legacy", "--dump", str(dump)]):
            refused = move.run(*arguments, succeeds=False)
            assert refused.code != 0
            assert "Traceback" not in refused.complaints
        assert differences(before, snapshot(connection)) == []
        move.run("--cutover")
        before = snapshot(connection)
        dump.write_text("somebody's")
        for arguments in (["--drop-legacy"], ["--drop-legacy", "--dump", str(move.folder)]):
            assert move.run(*arguments, succeeds=False).code != 0
        assert differences(before, snapshot(connection)) == []
        assert dump.read_text() == "somebody's"
