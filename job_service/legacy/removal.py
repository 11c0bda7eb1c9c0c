"""Removes what was imported beside jobs of the service's own, as an undo of ``--from`` does."""

from typing import Final

from job_service.legacy.session import Driver

_REMOVE: Final = """
WITH chosen AS MATERIALIZED (
    SELECT before.source, before.source_id, before.job_id,
        job.id IS NOT NULL AND job.revision <> 1 AS touched
    FROM legacy_rows AS before LEFT JOIN generation_jobs AS job ON job.id = before.job_id
    WHERE NOT before.conflict ORDER BY before.source, before.source_id LIMIT 5000
), jobs AS (
    DELETE FROM generation_jobs USING chosen
    WHERE generation_jobs.id = chosen.job_id AND NOT chosen.touched
), rows AS (
    DELETE FROM legacy_rows AS before USING chosen
    WHERE before.source = chosen.source AND before.source_id = chosen.source_id
)
SELECT source, source_id, job_id FROM chosen WHERE touched
UNION ALL
SELECT NULL, NULL, NULL FROM chosen
"""


async def remove_imported(driver: Driver) -> list[tuple[str, int, int]]:
    """Remove every imported job that nobody has changed since; former rows whose jobs stay."""
    stayed: list[tuple[str, int, int]] = []
    while True:
        rows = await (await driver.execute(_REMOVE.encode())).fetchall()
        if not rows:
            break
        stayed += [(row[0], row[1], row[2]) for row in rows if row[0] is not None]
    await driver.execute(
        b"DELETE FROM models USING legacy_models AS before WHERE before.model_id = models.id"
        b" AND models.created_at = models.updated_at"
    )
    await driver.execute(b"DELETE FROM legacy_models; DELETE FROM legacy_import")
    return stayed
