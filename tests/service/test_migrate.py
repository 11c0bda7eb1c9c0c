"""The schema arrives whole, once, whoever migrates and however many do."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from alembic import command
from sqlalchemy import make_url

from job_service.store import migrate
from job_service.store.migrate import MigrationError, SchemaState


def _execute(database_url: str, statement: str) -> None:
    plain = make_url(database_url).set(drivername="postgresql")
    with psycopg.connect(plain.render_as_string(hide_password=False)) as connection:
        connection.execute(statement.encode())


def test_an_empty_database_is_brought_to_the_expected_revision(empty_database_url: str) -> None:
    assert migrate.current(empty_database_url) is None
    assert migrate.check(empty_database_url) is SchemaState.EMPTY

    migrate.upgrade(empty_database_url)

    assert migrate.current(empty_database_url) == migrate.expected()
    assert migrate.check(empty_database_url) is SchemaState.CURRENT


def test_migrating_twice_changes_nothing(database_url: str) -> None:
    migrate.upgrade(database_url)

    assert migrate.check(database_url) is SchemaState.CURRENT


def test_replicas_that_migrate_at_once_all_succeed(empty_database_url: str) -> None:
    with ThreadPoolExecutor(4) as replicas:
        for done in [replicas.submit(migrate.upgrade, empty_database_url) for _ in range(4)]:
            done.result(timeout=60)

    assert migrate.check(empty_database_url) is SchemaState.CURRENT


def test_a_database_of_a_newer_version_is_left_alone(database_url: str) -> None:
    _execute(database_url, f"UPDATE {migrate.VERSION_TABLE} SET version_num = '9999'")

    assert migrate.check(database_url) is SchemaState.UNKNOWN
    with pytest.raises(MigrationError, match="9999"):
        migrate.upgrade(database_url)
    assert migrate.current(database_url) == "9999"


def test_other_alembic_users_of_the_database_are_not_disturbed(empty_database_url: str) -> None:
    _execute(
        empty_database_url,
        "CREATE TABLE alembic_version AS SELECT 'theirs' AS version_num",
    )

    migrate.upgrade(empty_database_url)

    assert migrate.check(empty_database_url) is SchemaState.CURRENT


def test_rows_of_the_first_version_survive_every_step(empty_database_url: str) -> None:
    with migrate.connected(empty_database_url) as connection:
        command.upgrade(migrate._config(connection), "0001")
        connection.commit()
    _execute(
        empty_database_url,
        """
        INSERT INTO generation_jobs (user_id, prompt, checkpoint_model, seed, params, workflow)
        SELECT gen_random_uuid(), 'job ' || n, 'sdxl', n, '{"kept": [1.50]}',
            CASE WHEN n > 90 THEN '{"graph": 9007199254740993}' END
        FROM generate_series(1, 100) AS n
        """,
    )
    _execute(
        empty_database_url,
        """
        INSERT INTO job_inputs (
            user_id, filename, content_type, size, sha256, width, height, object_key
        )
        SELECT gen_random_uuid(), 'a.png', 'image/png', 1, sha256('a'), 1, 1, 'k'
        """,
    )
    before = _rows(empty_database_url)

    migrate.upgrade(empty_database_url)
    assert migrate.check(empty_database_url) is SchemaState.CURRENT
    assert _rows(empty_database_url) == before


def _rows(database_url: str) -> list[tuple[Any, ...]]:
    """What the first version had of the rows, all but bookkeeping."""
    plain = make_url(database_url).set(drivername="postgresql")
    with psycopg.connect(plain.render_as_string(hide_password=False)) as connection:
        return connection.execute(
            """
            SELECT id, user_id, prompt, checkpoint_model, seed, params, workflow, created_at,
                revision, (SELECT array_agg(object_key) FROM job_inputs)
            FROM generation_jobs ORDER BY id
            """
        ).fetchall()
