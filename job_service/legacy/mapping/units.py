"""The former rows of a job to be: of the job, of the request that is part of it, or of both."""

from typing import Final

from job_service.legacy import former

#: Values that a request that is combined with a job may have otherwise.
_SHARED: Final = tuple(
    name for name in former.FIELD_NAMES if name not in ("result_content_id", "parameters")
)


def units(origin: str) -> str:
    """The query of all that ``import_todo`` names, which is of one former table."""
    return _of_requests() if origin == former.REQUESTS else _of_jobs()


def _of_requests() -> str:
    fields = ", ".join(f"request.{name}" for name in former.FIELD_NAMES)
    return f"""
    SELECT import_todo.job_id, request.id AS source_id, request.id AS request_id,
        CAST(NULL AS bigint) AS wanted_id,
        request.checksum, request.checksum AS request_checksum, {fields}, request.kept,
        false AS sampler_of_request
    FROM import_todo JOIN import_request AS request ON request.id = import_todo.source_id
    """


def _of_jobs() -> str:
    fields = ", ".join(
        f"coalesce(job.{name}, request.{name}) AS {name}" for name in former.FIELD_NAMES
    )
    shared = [field for field in former.FIELDS if field.name in _SHARED]
    differ = ",\n".join(
        f"(request.{field.name} IS NOT NULL"
        f" AND (job.{field.name} <> request.{field.name} OR job.kept ? '{field.name}')) IS TRUE"
        for field in shared
    )
    names = ", ".join(f"'request.{field.name}'" for field in shared)
    values = "\n".join(
        f"WHEN {n} THEN {field.as_json(f'request.{field.name}')}"
        for n, field in enumerate(shared, 1)
    )
    return f"""
    SELECT import_todo.job_id, job.id AS source_id, request.id AS request_id, job.id AS wanted_id,
        job.checksum, request.checksum AS request_checksum, {fields},
        CASE WHEN request.id IS NULL THEN job.kept
        WHEN job.kept IS NULL AND request.kept IS NULL AND true <> ALL(differ) THEN NULL
        ELSE nullif(coalesce((
            SELECT jsonb_object_agg(field, jsonb_build_object(
                'value', CASE n {values} END, 'why', 'the job says otherwise'
            ))
            FROM unnest(differ, ARRAY[{names}]) WITH ORDINALITY AS said (differs, field, n)
            WHERE differs
        ), '{{}}') || coalesce((
            SELECT jsonb_object_agg('request.' || key, value) FROM jsonb_each(request.kept)
        ), '{{}}') || coalesce(job.kept, '{{}}'), '{{}}') END AS kept,
        job.sampler_params IS NULL AND request.sampler_params IS NOT NULL AS sampler_of_request
    FROM import_todo JOIN import_job AS job ON job.id = import_todo.source_id
    LEFT JOIN import_match ON import_match.job_id = job.id
        AND import_match.job_id > :after AND import_match.job_id <= :upto
    LEFT JOIN import_request AS request ON request.id = import_match.request_id
    CROSS JOIN LATERAL (SELECT ARRAY[{differ}] AS differ OFFSET 0) AS compared
    """
