"""The oldest PostgreSQL that is supported is really there, and takes our schema."""

import psycopg
import pytest
from sqlalchemy import URL

from job_service.store import migrate
from job_service.store.migrate import SchemaState
from tests.postgres_fixture import new_database, plain_url


@pytest.mark.heavy
def test_postgres_15_takes_every_migration(postgres_15_server: URL) -> None:
    with new_database(postgres_15_server) as url:
        plain = plain_url(url)
        with psycopg.connect(plain) as connection:
            assert connection.info.server_version // 10_000 == 15
        migrate.upgrade(url.render_as_string(hide_password=False))
        assert migrate.check(url.render_as_string(hide_password=False)) is SchemaState.CURRENT
