"""The mapping read backwards: what the jobs say of each former field.

Each field is a pair of SQL expressions, which must be equal: of the former row (``old``), and of
its job (``job``, with ``legacy``: what was kept beside it). ``before`` says what became of the row,
``part`` which request is part of the job.
"""

from collections.abc import Mapping
from typing import Final

from job_service.legacy import former
from job_service.legacy.former import time_text

# Former field → what the former table says, and what the job says where nothing was kept.
_PLAIN: Final[Mapping[str, tuple[str, str]]] = {
    "user_id": ("CAST(old.user_id AS text)", "CAST(job.user_id AS text)"),
    "prompt": ("old.prompt", "job.prompt"),
    "negative_prompt": ("nullif(old.negative_prompt, '')", "nullif(job.negative_prompt, '')"),
    "checkpoint_model": ("nullif(old.checkpoint_model, '')", "job.checkpoint_model"),
    "lora_models": (
        "nullif(old.lora_models, '[]') #>> '{}'",
        "nullif(job.lora_models, '[]') #>> '{}'",
    ),
    "width": ("CAST(old.width AS text)", "CAST(job.width AS text)"),
    "height": ("CAST(old.height AS text)", "CAST(job.height AS text)"),
    "batch_size": ("CAST(old.batch_size AS text)", "CAST(job.batch_size AS text)"),
    "status": ("old.status", "job.status"),
    "celery_task_id": ("old.celery_task_id", "job.celery_task_id"),
    "comfyui_prompt_id": ("old.comfyui_prompt_id", "job.comfyui_prompt_id"),
    "created_at": (time_text("old.created_at"), time_text("job.created_at")),
    "updated_at": (time_text("old.updated_at"), time_text("job.updated_at")),
    "started_at": (time_text("old.started_at"), time_text("job.started_at")),
    "completed_at": (time_text("old.completed_at"), time_text("job.completed_at")),
    "error_message": ("old.error_message", "job.error_message"),
}
_SAMPLER: Final = """nullif(
    coalesce(job.params -> 'sampler_params', '{}')
    || CASE WHEN job.seed IS NULL THEN '{}' ELSE jsonb_build_object('seed', job.seed) END, '{}'
) #>> '{}'"""
_OUTPUTS: Final = """(
    SELECT jsonb_agg(external_location) #>> '{}' FROM (
        SELECT external_location FROM job_artifacts AS file
        WHERE file.job_id = job.id AND file.attempt = 0 AND file.role = 'output'
            AND file.external_location IS NOT NULL
        ORDER BY position
    ) AS outputs
)"""
# Thumbnails have no order any more: compared are the sums of their paths' hashes.
_THUMBNAILS: Final = """(
    SELECT CAST(sum(hashtextextended(external_location, 0)) AS text) FROM job_artifacts AS file
    WHERE file.job_id = job.id AND file.attempt = 0 AND file.role = 'thumbnail'
        AND file.external_location IS NOT NULL
)"""
_OLD_THUMBNAILS: Final = """CASE jsonb_typeof(old.thumbnail_paths) WHEN 'array' THEN
    CASE WHEN {kept} THEN old.thumbnail_paths #>> '{{}}' ELSE (
        SELECT CAST(sum(hashtextextended(path, 0)) AS text)
        FROM jsonb_array_elements_text(old.thumbnail_paths) AS path
    ) END ELSE old.thumbnail_paths #>> '{{}}' END"""
_SHARED_JSON: Final[Mapping[str, tuple[str, str]]] = {
    "output_paths": ("nullif(old.output_paths, '[]') #>> '{}'", _OUTPUTS),
    "thumbnail_paths": (_OLD_THUMBNAILS.format(kept="legacy ? 'thumbnail_paths'"), _THUMBNAILS),
}
#: What people are shown of a field that is compared by something else.
SHOWN: Final[Mapping[str, tuple[str, str]]] = {
    "thumbnail_paths": (
        "old.thumbnail_paths #>> '{}'",
        (
            "(SELECT jsonb_agg(external_location ORDER BY position, thumbnail_size) #>> '{}'"
            " FROM job_artifacts AS file"
            " WHERE file.job_id = job.id AND file.attempt = 0 AND file.role = 'thumbnail')"
        ),
    ),
}
_OLD_PARAMS: Final = """CASE WHEN jsonb_typeof(old.params) = 'object' THEN
    CASE WHEN jsonb_typeof(old.parameters) = 'object' THEN old.parameters || old.params
    ELSE old.params END
WHEN jsonb_typeof(old.parameters) = 'object' THEN old.parameters END"""


def _kept(key: str, plain: str) -> str:
    return f"CASE WHEN legacy ? '{key}' THEN legacy #>> '{{{key},value}}' ELSE {plain} END"


def _named(name: str, value: str) -> str:
    """What an empty checkpoint names is nothing."""
    return f"nullif({value}, '')" if name == "checkpoint_model" else value


def _unread(name: str) -> str:
    """Whether the former value is none of its kind: that is compared as ``unknown``."""
    return f"old.kept ? '{name}' IS TRUE"


def _job_fields() -> dict[str, tuple[str, str]]:
    """Of rows of the former job table. Where a request filled a gap, the gap is not looked at."""
    pairs = {name: (old, _named(name, _kept(name, new))) for name, (old, new) in _PLAIN.items()}
    pairs["job_type"] = (
        (
            "CASE WHEN old.job_type IN ('image_generation', 'text_generation', 'video_generation',"
            " 'audio_generation') THEN replace(old.job_type, '_generation', '')"
            " ELSE old.job_type END"
        ),
        _kept("job_type", "job.job_type"),
    )
    for name, (old, new) in _SHARED_JSON.items():
        pairs[name] = (old, _kept(name, new))
    gaps = {
        name: (
            old,
            (
                f"CASE WHEN NOT ({_unread(name)})"
                f" AND (part.source_id IS NULL OR ({old}) IS NOT NULL) THEN {new} END"
            ),
        )
        for name, (old, new) in pairs.items()
    }
    whole = f"({_OLD_PARAMS})"
    return {
        "id": ("CAST(old.id AS text)", _kept("id", "CAST(job.id AS text)")),
        **gaps,
        "params": (
            f"CAST(nullif(({_OLD_PARAMS}) - '{{legacy,sampler_params}}'::text[], '{{}}') AS text)",
            "CAST(nullif(job.params - '{legacy,sampler_params}'::text[], '{}') AS text)",
        ),
        "params.sampler_params": (
            f"nullif(nullif({whole} -> 'sampler_params', 'null'), '{{}}') #>> '{{}}'",
            (
                f"CASE WHEN nullif(nullif({whole} -> 'sampler_params', 'null'), '{{}}') IS NOT NULL"
                f" THEN {_kept('sampler_params', _SAMPLER)} END"
            ),
        ),
        "params.legacy": (
            f"{whole} ->> 'legacy'",
            "legacy #>> '{params.legacy,value}'",
        ),
        "params.kept": (
            "CASE WHEN jsonb_typeof(old.params) <> 'object' THEN old.params #>> '{}' END",
            "CASE WHEN old.params IS NOT NULL THEN legacy #>> '{params,value}' END",
        ),
        "parameters.kept": (
            "CASE WHEN legacy ? 'parameters' THEN old.parameters #>> '{}' END",
            "CASE WHEN old.parameters IS NOT NULL THEN legacy #>> '{parameters,value}' END",
        ),
        "content_id": (
            "CAST(coalesce(old.content_id, old.result_content_id) AS text)",
            (
                "CASE WHEN part.source_id IS NULL"
                " OR coalesce(old.content_id, old.result_content_id) IS NOT NULL"
                " THEN CAST(job.content_id AS text) END"
            ),
        ),
        "result_content_id.kept": (
            (
                "CASE WHEN old.content_id <> old.result_content_id"
                " THEN CAST(old.result_content_id AS text) END"
            ),
            "CASE WHEN old.content_id IS NOT NULL THEN legacy #>> '{result_content_id,value}' END",
        ),
        "sampler_params": (
            "CASE WHEN old.sampler_params <> '{}' THEN old.sampler_params #>> '{}' END",
            (
                "CASE WHEN old.sampler_params <> '{}' THEN"
                " CASE WHEN legacy ? 'column.sampler_params'"
                f" THEN legacy #>> '{{column.sampler_params,value}}'"
                f" ELSE {_kept('sampler_params', _SAMPLER)} END END"
            ),
        ),
        "unknown": (
            "CAST(old.kept AS text)",
            (
                "CASE WHEN old.kept IS NOT NULL THEN CAST((SELECT jsonb_object_agg(key, value)"
                " FROM jsonb_each(legacy) WHERE old.kept ? key) AS text) END"
            ),
        ),
    }


def _request_fields() -> dict[str, tuple[str, str]]:
    """Of rows of the former request table: what a job said otherwise is kept as the request's."""

    def either(name: str, plain: str) -> str:
        kept = _kept(name, plain)
        return _named(
            name,
            f"CASE WHEN legacy ? 'request.{name}' THEN legacy #>> '{{request.{name},value}}'"
            f" ELSE {kept} END",
        )

    pairs = {
        name: (old, either(name, new))
        for name, (old, new) in (*_PLAIN.items(), *_SHARED_JSON.items())
    }
    # Listed in the order they had, when they were kept as they were.
    kept_thumbnails = "legacy ?| '{thumbnail_paths,request.thumbnail_paths}'"
    pairs["thumbnail_paths"] = (
        _OLD_THUMBNAILS.format(kept=kept_thumbnails),
        pairs["thumbnail_paths"][1],
    )
    for name, (old, new) in pairs.items():
        pairs[name] = (
            old,
            (
                f"CASE WHEN NOT ({_unread(name)})"
                f" AND (before.outcome = 'imported' OR ({old}) IS NOT NULL) THEN {new} END"
            ),
        )
    return {
        "id": ("CAST(old.id AS text)", "CAST(job.legacy_request_id AS text)"),
        **pairs,
        "sampler_params": (
            "nullif(old.sampler_params, '{}') #>> '{}'",
            "CASE WHEN nullif(old.sampler_params, '{}') IS NOT NULL THEN "
            + either("sampler_params", _SAMPLER)
            + " END",
        ),
        "unknown": (
            "CAST(old.kept AS text)",
            (
                "CASE WHEN old.kept IS NOT NULL THEN CAST((SELECT jsonb_object_agg(name, value)"
                " FROM jsonb_each(legacy) CROSS JOIN LATERAL (SELECT CASE before.outcome"
                " WHEN 'combined' THEN substr(key, length('request.') + 1) ELSE key END AS name)"
                " AS n"
                " WHERE old.kept ? name"
                " AND (before.outcome = 'imported' OR key LIKE 'request.%')) AS text) END"
            ),
        ),
    }


#: Former column → the field that it is compared in, where that has another name.
MERGED: Final[Mapping[str, str]] = {"parameters": "params", "result_content_id": "content_id"}

#: Former table → field → what the table says, and what the job says.
FIELDS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    former.JOBS: _job_fields(),
    former.REQUESTS: _request_fields(),
}
