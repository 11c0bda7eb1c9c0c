"""Whether the jobs say all that the former rows said.

Each former field is worked out anew from what the jobs hold (the mapping read backwards) and
compared, by the sum over all rows of a hash of id and value. Both sides are PostgreSQL's doing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from job_service.legacy import former
from job_service.legacy.ranges.reading import ROWS, Range
from job_service.legacy.session import Driver, one, statements
from job_service.legacy.source_views import VIEWS
from job_service.store.database import Row, statement


@dataclass(frozen=True, slots=True)
class Checksum:
    """Of one field: rows that have a value, and the two sums, which must be equal."""

    rows: int
    before: int
    after: int

    def plus(self, other: "Checksum") -> "Checksum":
        """Of both together."""
        return Checksum(
            self.rows + other.rows, self.before + other.before, self.after + other.after
        )


@dataclass(frozen=True, slots=True)
class Checked:
    """What was compared in a range: rows that arrived, by outcome, and each field's checksum."""

    imported: int
    combined: int
    fields: Mapping[str, Checksum]

    @property
    def differing(self) -> Sequence[str]:
        """Fields that are not what they were."""
        return [name for name, sums in self.fields.items() if sums.before != sums.after]


_NOTHING: Final = Checksum(0, 0, 0)


def total(parts: Sequence[Checked]) -> Checked:
    """What was compared in all ranges together."""
    names = dict.fromkeys(name for part in parts for name in part.fields)
    fields = {}
    for name in names:
        sums = _NOTHING
        for part in parts:
            sums = sums.plus(part.fields.get(name, _NOTHING))
        fields[name] = sums
    return Checked(
        sum(part.imported for part in parts), sum(part.combined for part in parts), fields
    )


def _time(value: str) -> str:
    return f"CAST({value} AT TIME ZONE 'UTC' AS text)"


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
    "created_at": (_time("old.created_at"), _time("job.created_at")),
    "updated_at": (_time("old.updated_at"), _time("job.updated_at")),
    "started_at": (_time("old.started_at"), _time("job.started_at")),
    "completed_at": (_time("old.completed_at"), _time("job.completed_at")),
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
# What people are shown of a field that is compared by something else.
_SHOWN: Final[Mapping[str, tuple[str, str]]] = {
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


_FIELDS: Final = {former.JOBS: _job_fields(), former.REQUESTS: _request_fields()}


def _from(source: str) -> str:
    """The rows that were read last, each with its job.

    These are found by their keys one by one (OFFSET 0): nobody knows the tables' statistics while
    they are being filled, and no other way is good for one row as well as for all of a range.
    """
    part = (
        "LEFT JOIN LATERAL (SELECT source_id FROM legacy_rows"
        " WHERE outcome = 'combined' AND job_id = before.job_id OFFSET 0) AS part ON true"
        if source == former.JOBS
        else ""
    )
    return f"""
    FROM {ROWS[source]} AS old
    CROSS JOIN LATERAL (
        SELECT job_id, outcome FROM legacy_rows
        WHERE source = '{source}' AND source_id = old.id AND NOT conflict OFFSET 0
    ) AS before
    CROSS JOIN LATERAL (
        SELECT *, coalesce(params -> 'legacy', '{{}}') AS legacy FROM generation_jobs
        WHERE id = before.job_id AND revision = 1 OFFSET 0
    ) AS job
    {part}
    """


def _compared(source: str) -> bytes:
    """Of each field: how many rows have it, and the two sums. Each value is worked out once."""
    fields = _FIELDS[source].values()
    values = ",\n".join(
        f"{old} AS old_{n}, {new} AS new_{n}" for n, (old, new) in enumerate(fields)
    )
    sums = ",\n".join(
        f"count(old_{n}), sum(hashtextextended(old_{n}, id)), sum(hashtextextended(new_{n}, id))"
        for n in range(len(fields))
    )
    return statement(
        f"SELECT count(*) FILTER (WHERE outcome = 'imported'),"
        f" count(*) FILTER (WHERE outcome = 'combined'),\n{sums} FROM ("
        f"SELECT old.id, before.outcome, {values} {_from(source)} OFFSET 0) AS compared"
    )


_COMPARED: Final = {source: _compared(source) for source in former.JOB_TABLES}


async def check(driver: Driver, range_: Range) -> Checked:
    """Compare those rows of a range that have been imported; it is the one that was read last."""
    cursor = driver.cursor()
    await cursor.execute(_COMPARED[range_.source])
    row = await cursor.fetchone()
    assert row is not None, "aggregates answer one row"
    imported, combined, *sums = row
    fields = {
        name: Checksum(sums[3 * n], int(sums[3 * n + 1] or 0), int(sums[3 * n + 2] or 0))
        for n, name in enumerate(_FIELDS[range_.source])
    }
    return Checked(imported, combined, fields)


async def examples(driver: Driver, range_: Range, field: str) -> list[Row]:
    """The first rows of that range whose ``field`` is not what it was: id, before, after."""
    old, new = _FIELDS[range_.source][field]
    shown_old, shown_new = _SHOWN.get(field, (old, new))
    return list(
        await statements(driver).rows(
            statement(
                f"SELECT old.id, left({shown_old}, 80) AS before, left({shown_new}, 80) AS after"
                f" {_from(range_.source)} WHERE ({old}) IS DISTINCT FROM ({new})"
                " ORDER BY old.id LIMIT 3"
            )
        )
    )


async def count(driver: Driver, source: str) -> tuple[int, int]:
    """How many former rows there are, and how many of them are not imported."""
    rows, missing = await one(
        driver,
        f"SELECT count(*), count(*) FILTER (WHERE before.source_id IS NULL)"
        f" FROM {VIEWS[source]} AS old LEFT JOIN legacy_rows AS before"
        f" ON before.source = '{source}' AND before.source_id = old.id",
    )
    return rows, missing
