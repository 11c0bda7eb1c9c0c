"""Former installations on a PostgreSQL, the importer on them, and our service over the result."""

from collections.abc import Iterator

import pytest
from sqlalchemy import URL

from tests.postgres_fixture import new_database


@pytest.fixture
def old_server(postgres_server: URL) -> Iterator[str]:
    with new_database(postgres_server) as url:
        yield url.set(drivername="postgresql").render_as_string(hide_password=False)
