"""An import that is done once more changes nothing."""

import json
from collections.abc import Mapping
from typing import Any

import psycopg
import pytest

from tests.legacy_import.conftest import Settle
from tests.legacy_import.old_content import JOBS, REQUESTS
from tests.legacy_import.samples import SHAPES, sample
from tests.legacy_import.snapshot import differences, snapshot

pytestmark = pytest.mark.former


@pytest.mark.parametrize("name", SHAPES)
def test_a_second_run_changes_nothing(name: str, settle: Settle) -> None:
    content = sample(SHAPES[name])
    move = settle(content)
    first = move.run("--cutover")
    with psycopg.connect(move.target, autocommit=True) as connection:
        before = snapshot(connection)
        for again in (["--cutover"], []):
            second = move.run(*again)
            after = snapshot(connection)
            assert differences(before, after) == []
            assert before.keys() == after.keys()
            assert first.report is not None
            assert second.report is not None
            assert second.report["verified"]
            assert _of_jobs(second.report) == _of_jobs(first.report)


def _of_jobs(report: Mapping[str, Any]) -> list[Any]:
    """The checksums but for those of models, which stay where they are in place."""
    return [one for one in report["checksums"] if one["table"] in (JOBS, REQUESTS)]


def _without_new_ids(report: Mapping[str, Any]) -> list[str]:
    """The rows that are listed; in place, those at rest are the first to get new ids."""
    return sorted(json.dumps({**row, "job_id": None}) for row in report["rows"])


@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_a_dry_run_writes_nothing_and_says_what_is_going_to_happen(
    name: str, settle: Settle
) -> None:
    content = sample(SHAPES[name])
    move = settle(content)
    with (
        psycopg.connect(move.old, autocommit=True) as old,
        psycopg.connect(move.target, autocommit=True) as target,
    ):
        before = snapshot(old), snapshot(target)
        dry = move.run("--dry-run", "--cutover")
        assert (snapshot(old), snapshot(target)) == before
        assert dry.report is not None
        assert dry.report["dry_run"]
        assert dry.report["found"]["state"] == name
        assert dry.report["plan"]
        real = move.run("--cutover")
    assert real.report is not None
    assert dry.report["listed"] == real.report["listed"]
    assert _without_new_ids(dry.report) == _without_new_ids(real.report)


@pytest.mark.parametrize("settle", ["in place"], indirect=True)
def test_migrate_brings_an_old_database_home_by_itself(settle: Settle) -> None:
    move = settle(sample(SHAPES["B"]))
    migrated = move.command("migrate")
    assert migrated.code == 0, migrated.complaints
    with psycopg.connect(move.target, autocommit=True) as connection:
        before = snapshot(connection)
        assert move.command("migrate").code == 0
        again = move.run("--cutover")
        assert again.report is not None
        assert again.report["verified"]
        assert differences(before, snapshot(connection)) == []
