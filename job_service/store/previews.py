"""Statements on previews: the latest frame of each job that is watched at another replica."""

from collections.abc import Sequence
from typing import Final

from generation_jobs.v1.generation_job_service_pb2 import Preview

from job_service.store.database import Database, statement

# A job that was deleted meanwhile is left out; one that is there is kept from being deleted.
_WRITE: Final = statement("""
WITH job AS MATERIALIZED (
    SELECT id FROM generation_jobs WHERE id = ANY(CAST(:job_ids AS bigint[]))
    ORDER BY id FOR KEY SHARE
)
INSERT INTO job_previews (job_id, attempt, content_type, data)
SELECT preview.* FROM unnest(
    CAST(:job_ids AS bigint[]), CAST(:attempts AS integer[]),
    CAST(:content_types AS text[]), CAST(:frames AS bytea[])
) AS preview (job_id, attempt, content_type, data)
JOIN job ON job.id = preview.job_id
ORDER BY preview.job_id
ON CONFLICT (job_id) DO UPDATE
SET attempt = excluded.attempt, content_type = excluded.content_type, data = excluded.data,
    updated_at = now()
WHERE job_previews.attempt <= excluded.attempt
""")

_READ: Final = statement(
    "SELECT job_id, attempt, content_type, data FROM job_previews WHERE job_id = ANY(:job_ids)"
)

_SWEEP: Final = statement("DELETE FROM job_previews WHERE updated_at < now() - interval '1 minute'")


class PreviewTable:
    """Previews on their way between replicas. A crash of PostgreSQL empties the table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def write(self, previews: Sequence[Preview]) -> None:
        """Replace what there is of these jobs. Raises RefusedError: DATABASE_UNAVAILABLE."""
        await self._database.run(
            _WRITE,
            {
                "job_ids": [one.job_id for one in previews],
                "attempts": [one.attempt for one in previews],
                "content_types": [one.content_type for one in previews],
                "frames": [one.data for one in previews],
            },
        )

    async def read(self, job_ids: Sequence[int]) -> list[Preview]:
        """What there is of these jobs. Raises RefusedError: DATABASE_UNAVAILABLE."""
        rows = await self._database.rows(_READ, {"job_ids": list(job_ids)})
        return [
            Preview(
                job_id=row.job_id,
                attempt=row.attempt,
                content_type=row.content_type,
                data=bytes(row.data),
            )
            for row in rows
        ]

    async def sweep(self) -> None:
        """Remove what nobody will read. Raises RefusedError: DATABASE_UNAVAILABLE."""
        await self._database.run(_SWEEP)
