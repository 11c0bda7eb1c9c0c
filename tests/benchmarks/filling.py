"""Fills a job_service's table with far more rows than a benchmark could create one by one.

Every row is a copy of a job that was created through the API, with the state it shall have.
"""

from typing import Final

import psycopg

# Index by index after the rows: many times faster than row by row.
_INDEXES: Final = """
SELECT indexname, indexdef FROM pg_indexes
WHERE tablename = 'generation_jobs' AND indexname <> 'generation_jobs_pkey'
"""

_COPIED: Final = """
INSERT INTO generation_jobs (
    user_id, job_type, prompt, negative_prompt, checkpoint_model, width, height, batch_size, seed,
    params, labels, route_key, virtual_start, {columns}
)
SELECT CAST('00000000-0000-0000-0000-' || lpad(to_hex({user}), 12, '0') AS uuid),
    job_type, prompt, negative_prompt, checkpoint_model, width, height, batch_size, n,
    params, labels, route_key, {virtual_start}, {values}
FROM generation_jobs AS one, generate_series(0, {rows} - 1) AS n WHERE one.id = {like}
"""

_ATTEMPTS: Final = """
INSERT INTO job_attempts (
    job_id, attempt, lease_token, worker, instance_id, backend, leased_at, started_at, ended_at,
    outcome, status_after, reported_by
)
SELECT id, 1, gen_random_uuid(), 'box-1', gen_random_uuid(), 'box-1/gpu0', leased_at, started_at,
    completed_at, 'completed', 'completed', 'complete'
FROM generation_jobs WHERE status = 'completed'
"""

#: Virtual time between two jobs of one user: as the service's own.
_TURN: Final = 1_000_000


class Filling:
    """One table and a connection to it. Nobody else may use the table meanwhile."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self._connection = connection

    async def finished(self, rows: int, users: int, *, like: int) -> None:
        """Add completed jobs, done over the last year, with the attempt that completed each."""
        await self._connection.execute("SET maintenance_work_mem = '512MB'")
        cursor = await self._connection.execute(_INDEXES)
        indexes = await cursor.fetchall()
        for name, _ in indexes:
            await self._run(f"DROP INDEX {name}")
        ago = f"interval '1 year' * ({rows} - n) / {rows}"
        await self._run(
            _COPIED.format(
                user=f"1 + n % {users}",
                virtual_start="n",
                columns="status, attempt, backend, created_at, updated_at, leased_at, started_at,"
                " completed_at",
                values="'completed', 1, 'box-1/gpu0', "
                + ", ".join(["now() - " + ago] * 2 + [f"now() - {ago} + interval '9 s'"] * 3),
                rows=rows,
                like=like,
            )
        )
        await self._run(_ATTEMPTS)
        for _, definition in indexes:
            await self._run(definition)

    async def pending(self, rows: int, users: int, *, like: int) -> None:
        """Add jobs to be leased now; each user brought all of theirs at once."""
        each = rows // users
        await self._run(
            _COPIED.format(
                user=f"1 + n / {each}",
                virtual_start=f"(n % {each} + 1) * {_TURN}",
                columns="dispatchable",
                values="true",
                rows=rows,
                like=like,
            )
        )

    async def pending_ahead(self, rows: int, *, like: int) -> None:
        """Add jobs whose turn is before that of all others."""
        await self._run(
            _COPIED.format(
                user="1 + n % 1000",
                virtual_start="n % 1000",
                columns="dispatchable",
                values="true",
                rows=rows,
                like=like,
            )
        )

    async def scheduled(self, rows: int, *, like: int) -> None:
        """Add jobs for tomorrow."""
        await self._run(
            _COPIED.format(
                user="1 + n % 1000",
                virtual_start="NULL",
                columns="scheduled_at, not_before",
                values="now() + interval '1 day', now() + interval '1 day'",
                rows=rows,
                like=like,
            )
        )

    async def settled(self) -> None:
        """Vacuum and analyse, as autovacuum would have."""
        await self._run("VACUUM (ANALYZE) generation_jobs, job_attempts")

    async def _run(self, statement: str) -> None:
        await self._connection.execute(statement.encode())
