"""Former installations on PostgreSQL 18 and 15, and how their rows are brought home."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import URL

from tests.legacy_import.importing import Move
from tests.legacy_import.old_content import OldContent
from tests.postgres_fixture import new_database, plain_url

MakeDatabase = Callable[[], str]
Settle = Callable[[OldContent], Move]


@pytest.fixture(
    params=[
        pytest.param("postgres_server", id="18"),
        pytest.param("postgres_15_server", id="15", marks=pytest.mark.former),
    ]
)
def server(request: pytest.FixtureRequest) -> URL:
    """The newest PostgreSQL, and in tests marked heavy or former the oldest supported one, too."""
    found: URL = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def make_database(server: URL) -> Iterator[MakeDatabase]:
    """Makes empty databases, each as ``postgresql://…``."""
    with ExitStack() as stack:

        def make() -> str:
            url = stack.enter_context(new_database(server))
            return plain_url(url)

        yield make


@pytest.fixture(params=["in place", "from"])
def settle(request: pytest.FixtureRequest, make_database: MakeDatabase, tmp_path: Path) -> Settle:
    """Builds a former installation, to be moved in place or from one database to another."""

    def built(content: OldContent) -> Move:
        old = make_database()
        with psycopg.connect(old) as connection:
            content.build(connection)
        target = old if request.param == "in place" else make_database()
        return Move(old, target, tmp_path)

    return built
