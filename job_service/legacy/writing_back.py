"""Writes jobs that were created or changed here into the former tables: an undo loses none."""

import re
from collections.abc import Mapping
from typing import Final

from psycopg import errors as pg

from job_service.legacy import former
from job_service.legacy.inspection import Table
from job_service.legacy.report import Report
from job_service.legacy.session import Driver, one, statements
from job_service.store.database import Row, statement

_NEW_JOBS: Final = statement("""
SELECT id FROM generation_jobs AS job
WHERE NOT EXISTS (SELECT FROM legacy_rows AS before WHERE before.job_id = job.id)
ORDER BY id
""")

_CHANGED_JOBS: Final = statement("""
SELECT job.id, before.source, before.source_id FROM legacy_rows AS before
JOIN generation_jobs AS job ON job.id = before.job_id
WHERE before.outcome = 'imported' AND job.revision <> 1 ORDER BY job.id
""")

_DELETED_JOBS: Final = statement("""
SELECT before.source, before.source_id, before.job_id FROM legacy_rows AS before
WHERE before.outcome = 'imported'
    AND NOT EXISTS (SELECT FROM generation_jobs AS job WHERE job.id = before.job_id)
ORDER BY 1, 2
""")

# The former system had the seed among the sampler's settings.
_PARAMS: Final = """
job.params - 'legacy' || CASE WHEN job.seed IS NULL THEN '{}' ELSE jsonb_build_object(
    'sampler_params',
    coalesce(job.params -> 'sampler_params', '{}') || jsonb_build_object('seed', job.seed)
) END"""

# Former column → what a job has for it. Only columns that the former table has are written.
_WRITTEN: Final[Mapping[str, str]] = {
    "user_id": "job.user_id",
    "job_type": "job.job_type",
    "prompt": "job.prompt",
    "negative_prompt": "job.negative_prompt",
    "checkpoint_model": "job.checkpoint_model",
    "lora_models": "job.lora_models",
    "width": "job.width",
    "height": "job.height",
    "batch_size": "job.batch_size",
    "parameters": _PARAMS,
    "params": _PARAMS,
    "status": "job.status",
    "result_content_id": "job.content_id",
    "content_id": "job.content_id",
    "celery_task_id": "job.celery_task_id",
    "comfyui_prompt_id": "job.comfyui_prompt_id",
    "created_at": "job.created_at AT TIME ZONE 'UTC'",
    "updated_at": "job.updated_at AT TIME ZONE 'UTC'",
    "started_at": "job.started_at AT TIME ZONE 'UTC'",
    "completed_at": "job.completed_at AT TIME ZONE 'UTC'",
    "error_message": "job.error_message",
}
#: What goes among the parameters where the former table has no column for it.
_PARAMETERS: Final[Mapping[str, str]] = {
    "negative_prompt": "nullif(job.negative_prompt, '')",
    "checkpoint_model": "job.checkpoint_model",
    "lora_models": "nullif(job.lora_models, '[]')",
    "width": "job.width",
    "height": "job.height",
    "batch_size": "job.batch_size",
}
#: What may have changed of a job that was imported.
_MUTABLE: Final = (
    "status",
    "result_content_id",
    "content_id",
    "comfyui_prompt_id",
    "updated_at",
    "started_at",
    "completed_at",
    "error_message",
)
_MODIFIER: Final = re.compile(r"\(.*?\)")


async def write_back(driver: Driver, tables: Mapping[str, Table], report: Report) -> None:
    """Write new and changed jobs into the former tables; what these cannot hold is listed."""
    jobs = tables.get(former.JOBS)
    sql = statements(driver)
    for row in await sql.rows(_NEW_JOBS):
        if jobs is None or not await _fits(driver, _insert(jobs, row.id)):
            report.rows.add("rejected", former.JOBS, row.id, row.id)
    if jobs is not None:
        await _raise_ids(driver, jobs)
    for row in await sql.rows(_CHANGED_JOBS):
        if not await _fits(driver, _update(tables[row.source], row)):
            report.rows.add("rejected", row.source, row.source_id, row.id)
    for row in await sql.rows(_DELETED_JOBS):
        report.rows.add("removed", row.source, row.source_id, row.job_id)


async def _raise_ids(driver: Driver, table: Table) -> None:
    """Have the application's next id be above those of jobs that were created here."""
    (highest,) = await one(driver, f"SELECT max(id) FROM {table.qualified}")
    if table.next_id is not None and highest != table.max_id and highest >= table.next_id:
        await driver.execute(
            "SELECT setval(pg_get_serial_sequence(%s, 'id'), %s)", [table.qualified, highest]
        )


async def _fits(driver: Driver, sql: str) -> bool:
    """Run it; whether the former table, with its constraints and triggers, takes the row."""
    try:
        async with driver.transaction():
            await driver.execute(sql.encode())
    except (pg.DataError, pg.IntegrityError, pg.RaiseException):
        return False
    return True


def _insert(table: Table, job_id: int) -> str:
    columns = [name for name in table.columns if name in _WRITTEN]
    values = [_as(table, name) for name in columns]
    overriding = "OVERRIDING SYSTEM VALUE " if table.ids == "identity" else ""
    return (
        f"INSERT INTO {table.qualified} (id, {', '.join(columns)}) {overriding}"
        f"SELECT job.id, {', '.join(values)} FROM generation_jobs AS job WHERE job.id = {job_id}"
    )


def _update(table: Table, row: Row) -> str:
    changes = ", ".join(
        f"{name} = {_as(table, name)}" for name in _MUTABLE if name in table.columns
    )
    return (
        f"UPDATE {table.qualified} AS old SET {changes} FROM generation_jobs AS job"
        f" WHERE old.id = {row.source_id} AND job.id = {row.id}"
    )


def _as(table: Table, name: str) -> str:
    """The value as the column's type. Its length is not told: a cast would cut the value off."""
    value, type_ = _WRITTEN[name], table.columns[name]
    if value is _PARAMS:
        besides = ", ".join(
            f"'{field}', {of_job}"
            for field, of_job in _PARAMETERS.items()
            if field not in table.columns
        )
        if besides:
            value = f"{value} || jsonb_strip_nulls(jsonb_build_object({besides}))"
    if type_.endswith("[]"):
        return (
            f"CAST(ARRAY(SELECT one #>> '{{}}' FROM jsonb_array_elements({value}) AS one)"
            f" AS {type_})"
        )
    return f"CAST(CAST({value} AS text) AS {_MODIFIER.sub('', type_)})"
