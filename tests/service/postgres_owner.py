"""A process that owns an embedded PostgreSQL: adds a row, says how many there are, waits.

Run as ``python postgres_owner.py DIRECTORY``; prints ``rows N`` or ``refused: …``, and closes
cleanly when its standard input ends.
"""

import asyncio
import sys
from pathlib import Path

import psycopg

from job_service.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError


async def main() -> None:
    async with EmbeddedPostgres(Path(sys.argv[1])) as postgres:
        url = postgres.url.replace("+psycopg", "")
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute("CREATE TABLE IF NOT EXISTS kept (at timestamptz)")
            await connection.execute("INSERT INTO kept VALUES (now())")
            count = await (await connection.execute("SELECT count(*) FROM kept")).fetchone()
        assert count is not None
        print("rows", count[0], flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except EmbeddedPostgresError as error:
        print("refused:", error, flush=True)
