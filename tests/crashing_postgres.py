"""A PostgreSQL that crashes with everything that was not brought to the disk on purpose."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from job_service.embedded_postgres import EmbeddedPostgres
from job_service.store import migrate
from tests.postgres_fixture import plain_url


@asynccontextmanager
async def until_it_crashes(folder: Path) -> AsyncIterator[str]:
    """A migrated database in ``folder``, by its URL; its server is killed as the block ends."""
    async with EmbeddedPostgres(folder) as postgres:
        await asyncio.to_thread(migrate.upgrade, postgres.url)
        # Nothing is written to the disk in passing.
        async with await connected(postgres.url) as operator:
            await operator.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
            await operator.execute("ALTER SYSTEM SET wal_writer_flush_after = '1GB'")
            await operator.execute("SELECT pg_reload_conf()")
        yield postgres.url
        server = int((folder / "cluster" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(server, signal.SIGKILL)
        await asyncio.wait_for(postgres.wait(), 30)


async def connected(url: str) -> psycopg.AsyncConnection:
    """Whoever changes the database besides job_service, a statement a transaction."""
    return await psycopg.AsyncConnection.connect(plain_url(make_url(url)), autocommit=True)
