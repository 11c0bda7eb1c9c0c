"""What becomes of a batch of former rows: the one mapping, in SQL, of every import.

It fills the temporary table ``import_batch``, a row for each job to be, from the former rows that
``import_todo`` names, as ``import_job`` and ``import_request`` have them. Values that have no place
in their column go into ``legacy`` as ``{"field": {"value": …, "why": …}}``; the column has a valid
value or null.
"""

from typing import Final

from job_service.jobs.limits import (
    DEFAULT_LORA_STRENGTH,
    MAX_LORAS,
    MAX_NAME,
    MAX_PARAMS_BYTES,
    MAX_PROMPT,
    MAX_SEED,
    MAX_WORD,
)
from job_service.legacy import former

#: What the former words for states and types mean.
STATUS_WORDS: Final = """
CASE lower(btrim({status}))
    WHEN 'pending' THEN 'pending'
    WHEN 'running' THEN 'running' WHEN 'processing' THEN 'running' WHEN 'started' THEN 'running'
    WHEN 'completed' THEN 'completed'
    WHEN 'failed' THEN 'failed'
    WHEN 'cancelled' THEN 'cancelled' WHEN 'canceled' THEN 'cancelled'
END
"""
_TYPE_WORDS: Final = """
CASE {job_type}
    WHEN 'image' THEN 'image' WHEN 'image_generation' THEN 'image'
    WHEN 'text' THEN 'text' WHEN 'text_generation' THEN 'text'
    WHEN 'video' THEN 'video' WHEN 'video_generation' THEN 'video'
    WHEN 'audio' THEN 'audio' WHEN 'audio_generation' THEN 'audio'
END
"""

#: Why a job that is queued again is listed when it names none: workers fail pictures without one.
NEEDS_CHECKPOINT: Final = "is not named, and a picture needs one: give it with --checkpoint"

CREATE_BATCH: Final = """
CREATE TEMPORARY TABLE IF NOT EXISTS import_batch (
    job_id bigint,
    source_id bigint,
    request_id bigint,
    checksum bigint,
    request_checksum bigint,
    user_id uuid,
    job_type text,
    status text,
    prompt text,
    negative_prompt text,
    checkpoint_model text,
    lora_models jsonb,
    lora_names jsonb,
    width integer,
    height integer,
    batch_size integer,
    seed bigint,
    params jsonb,
    content_id bigint,
    error_text text,
    error_message text,
    comfyui_prompt_id text,
    celery_task_id text,
    output_paths jsonb,
    thumbnail_paths jsonb,
    created_at timestamptz,
    updated_at timestamptz,
    started_at timestamptz,
    completed_at timestamptz,
    legacy jsonb
)
"""

#: Values that a request that is combined with a job may have otherwise.
_SHARED: Final = tuple(
    name for name in former.FIELD_NAMES if name not in ("result_content_id", "parameters")
)


def _time_text(value: str) -> str:
    """A point in time as the former tables wrote it."""
    return f"CAST({value} AT TIME ZONE 'UTC' AS text)"


def _as_json(field: former.Field, value: str) -> str:
    return f"to_jsonb({_time_text(value) if field.kind == 'timestamptz' else value})"


# The former rows of a job to be: of the job, of the request that is part of it, or of both.
def _unit(origin: str) -> str:
    if origin == former.REQUESTS:
        fields = ", ".join(f"request.{name}" for name in former.FIELD_NAMES)
        return f"""
        SELECT import_todo.job_id, request.id AS source_id, request.id AS request_id,
            CAST(NULL AS bigint) AS wanted_id,
            request.checksum, request.checksum AS request_checksum, {fields}, request.kept,
            false AS sampler_of_request
        FROM import_todo JOIN import_request AS request ON request.id = import_todo.source_id
        """
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
        f"WHEN {n} THEN {_as_json(field, f'request.{field.name}')}"
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


def _sampler(name: str, type_: str, condition: str, value: str = "{it}") -> str:
    """A setting that is of its type and in its bounds; ``{it}`` is what was given."""
    given = f"(sampler_given -> '{name}')"
    return f"""'{name}', CASE WHEN jsonb_typeof({given}) = '{type_}' THEN
            CASE WHEN {condition.format(it=given)} THEN {value.format(it=given)} END END"""


_WHOLE: Final = "CAST({it} AS numeric) BETWEEN 1 AND 150 AND CAST({it} AS numeric) % 1 = 0"
_WORD: Final = f"length({{it}} #>> '{{{{}}}}') BETWEEN 1 AND {MAX_WORD}"
_SAMPLER: Final = f"""jsonb_strip_nulls(jsonb_build_object(
            {_sampler("steps", "number", _WHOLE, "to_jsonb(CAST({it} AS integer))")},
            {_sampler("cfg", "number", "CAST({it} AS numeric) BETWEEN 0 AND 30")},
            {_sampler("sampler_name", "string", _WORD)},
            {_sampler("scheduler", "string", _WORD)},
            {_sampler("denoise", "number", "CAST({it} AS numeric) BETWEEN 0 AND 1")}
        ))"""

# LoRAs as this service stores them; null when one of them cannot be. The former ones had one
# strength, or none.
_LORAS: Final = f"""CASE WHEN jsonb_typeof(lora_models) = 'array' THEN
            CASE WHEN jsonb_array_length(lora_models) <= {MAX_LORAS} THEN (
                SELECT CASE WHEN bool_and(
                    length(name) BETWEEN 1 AND {MAX_NAME}
                    AND model BETWEEN -10 AND 10 AND clip BETWEEN -10 AND 10
                ) IS NOT FALSE AND count(*) = count(name) AND count(*) = count(model)
                    AND count(*) = count(clip)
                THEN coalesce(jsonb_agg(jsonb_build_object(
                    'name', name, 'strength_model', model, 'strength_clip', clip
                ) ORDER BY n), '[]') END
                FROM jsonb_array_elements(lora_models) WITH ORDINALITY AS lora (given, n)
                CROSS JOIN LATERAL (SELECT
                    CASE jsonb_typeof(given) WHEN 'string' THEN given #>> '{{}}' WHEN 'object' THEN
                    CASE jsonb_typeof(given -> 'name') WHEN 'string' THEN given ->> 'name' END
                    END AS name,
                    coalesce(
                        given -> 'strength_model', given -> 'strength', given -> 'weight',
                        to_jsonb({DEFAULT_LORA_STRENGTH})
                    ) AS model_given
                ) AS named
                CROSS JOIN LATERAL (SELECT
                    coalesce(given -> 'strength_clip', model_given) AS clip_given
                ) AS strong
                CROSS JOIN LATERAL (SELECT
                    CASE jsonb_typeof(model_given) WHEN 'number'
                        THEN CAST(model_given AS numeric) END AS model,
                    CASE jsonb_typeof(clip_given) WHEN 'number'
                        THEN CAST(clip_given AS numeric) END AS clip
                ) AS measured
            ) END
        END"""


def _valid_time(name: str) -> str:
    return (
        f"CASE WHEN {name} BETWEEN '0001-01-01 00:00:00+00'"
        f" AND '9999-12-31 23:59:59.999999+00' THEN {name} END AS good_{name}"
    )


def _size(name: str) -> str:
    return f"{name} BETWEEN 64 AND 8192 AND {name} % 8 = 0"


_STRINGS_ONLY: Final = """(jsonb_typeof({name}) = 'array'
        AND NOT jsonb_path_exists(
            {name}, 'strict $[*] ? (@.type() != "string" || @ == "")', '{{}}', true
        ))"""

# Field → why its value has no place; null: it has one.
_WHYS: Final = (
    (
        "job_type",
        (
            "CASE WHEN type_word IS NULL AND (job_type IS NOT NULL OR wanted_id IS NOT NULL)"
            " THEN 'is no known type; taken for image' END"
        ),
    ),
    (
        "status",
        """CASE
        WHEN status_word IS NULL THEN 'is no known state; taken for failed'
        WHEN status_word = 'running' AND new_status = 'pending'
            THEN 'was at work when the system was replaced: queued again'
        WHEN status_word = 'running' THEN 'was at work when the system was replaced: failed'
        WHEN status <> status_word THEN 'is written otherwise'
    END""",
    ),
    (
        "prompt",
        f"""CASE
        WHEN prompt IS NULL THEN 'is missing'
        WHEN btrim(prompt, E' \\t\\n\\r\\f\\v') = '' THEN 'is blank'
        WHEN length(prompt) > {MAX_PROMPT} THEN 'has more than {MAX_PROMPT} characters'
    END""",
    ),
    (
        "negative_prompt",
        (
            f"CASE WHEN length(negative_prompt) > {MAX_PROMPT}"
            f" THEN 'has more than {MAX_PROMPT} characters' END"
        ),
    ),
    (
        "checkpoint_model",
        f"""CASE
        WHEN length(checkpoint_model) > {MAX_NAME} THEN 'has more than {MAX_NAME} characters'
        WHEN coalesce(checkpoint_model, '') = '' AND new_status = 'pending'
            AND coalesce(type_word, 'image') = 'image' THEN '{NEEDS_CHECKPOINT}'
    END""",
    ),
    (
        "lora_models",
        """CASE
        WHEN loras IS NULL THEN 'cannot be read as LoRAs'
        WHEN loras <> lora_models THEN 'is written otherwise'
    END""",
    ),
    (
        "width",
        f"CASE WHEN NOT ({_size('width')}) THEN 'must be 64 to 8192, and a multiple of 8' END",
    ),
    (
        "height",
        f"CASE WHEN NOT ({_size('height')}) THEN 'must be 64 to 8192, and a multiple of 8' END",
    ),
    ("batch_size", "CASE WHEN NOT batch_size BETWEEN 1 AND 1024 THEN 'must be 1 to 1024' END"),
    (
        "sampler_params",
        """CASE
        WHEN sampler_given IS NULL THEN NULL
        WHEN jsonb_typeof(sampler_given) <> 'object' THEN 'is no JSON object'
        WHEN sampler || CASE WHEN good_seed IS NULL THEN '{}'
            ELSE jsonb_build_object('seed', good_seed) END <> sampler_given
            THEN 'has settings that cannot be used'
    END""",
    ),
    (
        "column.sampler_params",
        """CASE WHEN sampler_params <> sampler_given AND NOT sampler_of_request
        THEN 'params say otherwise' END""",
    ),
    (
        "request.sampler_params",
        """CASE WHEN sampler_params <> sampler_given AND sampler_of_request
        THEN 'the job says otherwise' END""",
    ),
    ("params", "CASE WHEN jsonb_typeof(params) <> 'object' THEN 'is no JSON object' END"),
    (
        "parameters",
        """CASE
        WHEN jsonb_typeof(parameters) <> 'object' THEN 'is no JSON object'
        WHEN parameters || params_object <> params_object || parameters
            THEN 'params say otherwise'
    END""",
    ),
    (
        "params.size",
        (
            f"CASE WHEN octet_length(CAST(params_object AS text)) > {MAX_PARAMS_BYTES}"
            f" THEN 'is larger than the {MAX_PARAMS_BYTES} bytes of a new job; kept whole' END"
        ),
    ),
    (
        "params.legacy",
        "CASE WHEN params_object ? 'legacy' THEN 'is a name needed here; kept below it' END",
    ),
    (
        "result_content_id",
        """CASE WHEN result_content_id <> content_id
        THEN 'content_id says otherwise' END""",
    ),
    (
        "celery_task_id",
        (
            f"CASE WHEN length(celery_task_id) > {MAX_NAME}"
            f" THEN 'has more than {MAX_NAME} characters' END"
        ),
    ),
    (
        "comfyui_prompt_id",
        f"""CASE
        WHEN length(comfyui_prompt_id) > {MAX_NAME} THEN 'has more than {MAX_NAME} characters'
        WHEN new_status = 'pending' AND comfyui_prompt_id IS NOT NULL
            THEN 'is of a run that will be repeated'
    END""",
    ),
    (
        "output_paths",
        """CASE
        WHEN output_paths IS NULL OR output_paths = '[]' THEN NULL
        WHEN NOT outputs_listed THEN 'is no list of paths'
        WHEN new_status <> 'completed' THEN 'only completed jobs show files'
    END""",
    ),
    (
        "thumbnail_paths",
        """CASE
        WHEN thumbnail_paths IS NULL OR thumbnail_paths = '[]' THEN NULL
        WHEN NOT thumbnails_listed THEN 'is no list of paths'
        WHEN new_status <> 'completed' THEN 'only completed jobs show files'
    END""",
    ),
    (
        "created_at",
        """CASE
        WHEN created_at IS NULL THEN 'is missing'
        WHEN good_created_at IS NULL THEN 'is out of range'
    END""",
    ),
    (
        "updated_at",
        """CASE
        WHEN updated_at IS NULL THEN 'is missing'
        WHEN good_updated_at IS NULL THEN 'is out of range'
    END""",
    ),
    (
        "started_at",
        """CASE
        WHEN started_at IS NULL THEN NULL
        WHEN good_started_at IS NULL THEN 'is out of range'
        WHEN new_status = 'pending' THEN 'a queued job has not started'
    END""",
    ),
    (
        "completed_at",
        """CASE
        WHEN completed_at IS NULL THEN
            CASE WHEN new_status <> 'pending' THEN 'is missing' END
        WHEN good_completed_at IS NULL THEN 'is out of range'
        WHEN new_status = 'pending' THEN 'a queued job has not ended'
    END""",
    ),
    (
        "error_message",
        """CASE
        WHEN octet_length(error_message) > 4096 THEN 'is longer than an error may be'
        WHEN new_status = 'pending' AND error_message IS NOT NULL
            THEN 'is of a run that will be repeated'
    END""",
    ),
    ("id", "CASE WHEN wanted_id < 1 THEN 'is below 1, where ids of jobs begin' END"),
)

_VALUES: Final = {
    "column.sampler_params": "sampler_params",
    "request.sampler_params": "sampler_params",
    "sampler_params": "sampler_given",
    "params.legacy": "params_object -> 'legacy'",
    "params.size": "octet_length(CAST(params_object AS text))",
    "id": "wanted_id",
}


def _whys() -> str:
    return ",\n        ".join(f"{why} AS why_{n}" for n, (_, why) in enumerate(_WHYS))


def _unfit() -> str:
    """The numbers of the fields whose value has no place."""
    numbers = (f"CASE WHEN why_{n} IS NOT NULL THEN {n} END" for n in range(len(_WHYS)))
    return f"array_remove(ARRAY[{', '.join(numbers)}], NULL)"


def _why_names() -> str:
    return f"'{{{','.join(name for name, _ in _WHYS)}}}'::text[]"


def _judgements() -> str:
    """What is said of field ``n``: worked out for few rows, and for few fields of them."""
    kinds = {field.name: field for field in former.FIELDS}
    cases = []
    for n, (name, _) in enumerate(_WHYS):
        value = _VALUES.get(name, name)
        field = kinds.get(name)
        text = _time_text(value) if field is not None and field.kind == "timestamptz" else value
        cases.append(f"WHEN {n} THEN jsonb_build_object('value', to_jsonb({text}), 'why', why_{n})")
    return "\n            ".join(cases)


def fill_batch(origin: str) -> str:
    """The statement that fills ``import_batch`` with rows of one former table.

    Parameters: ``after`` and ``upto`` (the range of ids), ``running`` (the state of jobs that were
    at work: pending or failed).
    """
    # Each step is worked out once for a row (OFFSET 0), and no step is kept for all rows.
    return f"""
INSERT INTO import_batch
WITH lora_lists AS MATERIALIZED (
    -- there are few different ones
    SELECT written, loras, coalesce((
        SELECT jsonb_agg(DISTINCT lora -> 'name') FROM jsonb_array_elements(loras) AS lora
    ), '[]') AS lora_names
    FROM (
        SELECT written, {_LORAS} AS loras
        FROM (
            SELECT CAST(lora_models AS text) AS written FROM import_job
            UNION SELECT CAST(lora_models AS text) FROM import_request
        ) AS lists
        CROSS JOIN LATERAL (SELECT CAST(written AS jsonb) AS lora_models OFFSET 0) AS read
        WHERE lora_models <> '[]' OFFSET 0
    ) AS understood
), unit AS ({_unit(origin)} OFFSET 0
), read AS (
    SELECT unit.*,
        {STATUS_WORDS.format(status="status")} AS status_word,
        {_TYPE_WORDS.format(job_type="job_type")} AS type_word,
        CASE WHEN jsonb_typeof(params) = 'object' THEN
            CASE WHEN jsonb_typeof(parameters) = 'object' THEN parameters || params ELSE params END
        WHEN jsonb_typeof(parameters) = 'object' THEN parameters
        ELSE '{{}}' END AS params_object,
        {", ".join(map(_valid_time, ("created_at", "updated_at", "started_at", "completed_at")))},
        coalesce({_STRINGS_ONLY.format(name="output_paths")}, false) AS outputs_listed,
        coalesce({_STRINGS_ONLY.format(name="thumbnail_paths")}, false) AS thumbnails_listed
    FROM unit OFFSET 0
), understood AS (
    SELECT read.*,
        CASE status_word WHEN 'running' THEN CAST(:running AS text)
            ELSE coalesce(status_word, 'failed') END AS new_status,
        coalesce(nullif(params_object -> 'sampler_params', 'null'), sampler_params)
            AS sampler_given,
        CASE WHEN written IS NULL THEN '[]' ELSE loras END AS loras,
        coalesce(lora_names, '[]') AS lora_names
    FROM read LEFT JOIN lora_lists ON written = CAST(read.lora_models AS text)
    OFFSET 0
), sampled AS (
    SELECT understood.*,
        CASE WHEN jsonb_typeof(sampler_given) = 'object' THEN {_SAMPLER} END AS sampler,
        CASE WHEN jsonb_typeof(sampler_given -> 'seed') = 'number' THEN
            CASE WHEN CAST(sampler_given -> 'seed' AS numeric) BETWEEN 0 AND {MAX_SEED}
                AND CAST(sampler_given -> 'seed' AS numeric) % 1 = 0
            THEN CAST(sampler_given -> 'seed' AS bigint) END
        END AS good_seed
    FROM understood OFFSET 0
), questioned AS (
    SELECT sampled.*,
        {_whys()}
    FROM sampled OFFSET 0
), told AS (
    SELECT questioned.*, {_unfit()} AS unfit
    FROM questioned OFFSET 0
), judged AS (
    -- most rows have nothing to be kept
    SELECT told.*, CASE WHEN unfit = '{{}}' THEN kept ELSE (
        SELECT jsonb_object_agg(({_why_names()})[n + 1], CASE n
            {_judgements()}
        END) FROM unnest(unfit) AS n
    ) || coalesce(kept, '{{}}') END AS legacy
    FROM told OFFSET 0
)
SELECT
    job_id, source_id, request_id, checksum, request_checksum,
    user_id,
    coalesce(type_word, 'image'),
    new_status,
    CASE WHEN legacy ? 'prompt' THEN '(none)' ELSE prompt END,
    CASE WHEN length(negative_prompt) <= {MAX_PROMPT} THEN negative_prompt ELSE '' END,
    CASE WHEN length(checkpoint_model) BETWEEN 1 AND {MAX_NAME} THEN checkpoint_model END,
    coalesce(loras, '[]'),
    lora_names,
    CASE WHEN {_size("width")} THEN width END,
    CASE WHEN {_size("height")} THEN height END,
    CASE WHEN batch_size BETWEEN 1 AND 1024 THEN batch_size END,
    good_seed,
    params_object - '{{legacy,sampler_params}}'::text[]
        || CASE WHEN sampler IS NULL THEN '{{}}'
            ELSE jsonb_build_object('sampler_params', sampler) END
        || CASE WHEN legacy IS NULL THEN '{{}}' ELSE jsonb_build_object('legacy', legacy) END,
    coalesce(content_id, result_content_id),
    CASE
        WHEN status_word IS NULL
            THEN coalesce(error_message, 'its former state was ' || coalesce(status, 'not given'))
        WHEN status_word = 'running' AND new_status = 'failed'
            THEN coalesce(error_message, 'it was at work when the system was replaced')
        WHEN new_status = 'failed' THEN coalesce(error_message, '')
        ELSE error_message
    END,
    error_message,
    CASE WHEN length(comfyui_prompt_id) <= {MAX_NAME} THEN comfyui_prompt_id END,
    CASE WHEN length(celery_task_id) <= {MAX_NAME} THEN celery_task_id END,
    CASE WHEN outputs_listed AND new_status = 'completed' THEN output_paths END,
    CASE WHEN thumbnails_listed AND new_status = 'completed' THEN thumbnail_paths END,
    coalesce(
        good_created_at, good_started_at, good_completed_at, good_updated_at, 'epoch'
    ),
    coalesce(
        good_updated_at, greatest(good_created_at, good_started_at, good_completed_at), 'epoch'
    ),
    CASE WHEN new_status <> 'pending' THEN good_started_at END,
    CASE WHEN new_status <> 'pending' THEN coalesce(
        good_completed_at, good_updated_at, good_started_at, good_created_at, 'epoch'
    ) END,
    legacy
FROM judged
"""
