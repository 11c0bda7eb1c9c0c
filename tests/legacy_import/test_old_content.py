"""Former installations are really built: every value that was drawn is in the database."""

import psycopg
from hypothesis import HealthCheck, given, settings

from tests.legacy_import.conftest import MakeDatabase
from tests.legacy_import.old_content import OldContent, stored
from tests.legacy_import.old_rows import contents


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(content=contents())
def test_built(make_database: MakeDatabase, content: OldContent) -> None:
    with psycopg.connect(make_database()) as connection:
        content.build(connection)
        found = stored(connection)
        assert len(found.jobs) == len(content.jobs)
        assert len(found.requests) == len(content.requests)
        for drawn in content.jobs:
            row = found.jobs[int(drawn["id"] or 0)]
            assert row["prompt"] == drawn["prompt"]
            assert row["error_message"] == drawn["error_message"]
