"""PostgreSQL for tests: one server per test process, one fresh migrated database per test.

The oldest version that is supported runs beside it for those tests that ask for it.
"""

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from threading import Thread

import psycopg
import pytest
from sqlalchemy import URL, make_url

from job_service.embedded_postgres import EmbeddedPostgres, Programs
from job_service.store import migrate
from tests.postgres_15 import programs as postgres_15


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[URL]:
    """A server on which databases may be created: ``TEST_DATABASE_URL``, else an embedded one."""
    external = os.environ.get("TEST_DATABASE_URL")
    if external:
        yield make_url(external).set(drivername="postgresql+psycopg")
        return
    with _running(tmp_path_factory.mktemp("postgres")) as url:
        yield make_url(url)


@pytest.fixture(scope="session")
def postgres_15_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[URL]:
    """A PostgreSQL 15, whatever the other one is."""
    with _running(tmp_path_factory.mktemp("postgres-15"), postgres_15.install()) as url:
        yield make_url(url)


@pytest.fixture(scope="session")
def migrated_template(postgres_server: URL) -> Iterator[URL]:
    """A database with the schema and no rows, to be copied."""
    with new_database(postgres_server, f"test_{os.getpid()}_template") as url:
        migrate.upgrade(url.render_as_string(hide_password=False))
        yield url


@pytest.fixture
def database_url(postgres_server: URL, migrated_template: URL) -> Iterator[str]:
    """A fresh database with the schema, as ``postgresql+psycopg://…``."""
    with new_database(postgres_server, template=migrated_template.database) as url:
        yield url.render_as_string(hide_password=False)


@pytest.fixture
def empty_database_url(postgres_server: URL) -> Iterator[str]:
    """A fresh database without any schema."""
    with new_database(postgres_server) as url:
        yield url.render_as_string(hide_password=False)


_numbers = count(1)


def plain_url(url: URL) -> str:
    """A database's URL as libpq takes it, with its password."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


@contextmanager
def new_database(
    server: URL,
    name: str | None = None,
    *,
    template: str | None = None,
    encoding: str | None = None,
) -> Iterator[URL]:
    """A database while this is open, as ``postgresql+psycopg://…``; empty, or like ``template``."""
    name = name or f"test_{os.getpid()}_{next(_numbers)}"
    plain = plain_url(server)
    with psycopg.connect(plain, autocommit=True) as connection:
        of_its_own = f"ENCODING {encoding} LOCALE_PROVIDER libc LOCALE 'C'" if encoding else ""
        connection.execute(
            f"CREATE DATABASE {name} TEMPLATE {template or 'template0'} {of_its_own}".encode()
        )
        try:
            yield server.set(database=name)
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextmanager
def _running(directory: Path, programs: Programs | None = None) -> Iterator[str]:
    """Run a server on an event loop of its own, which goes on while no test's loop does."""
    started: Future[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        async with EmbeddedPostgres(directory, durable=False, programs=programs) as postgres:
            started.set_result((postgres.url, asyncio.get_running_loop(), stop))
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = Thread(target=run, name="postgres")
    thread.start()
    try:
        url, loop, stop = started.result()
        yield url
        loop.call_soon_threadsafe(stop.set)
    finally:
        thread.join()
