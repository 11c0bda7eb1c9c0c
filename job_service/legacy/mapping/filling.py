"""What becomes of a batch of former rows, in one statement.

It fills the temporary table ``import_batch``, a row for each job to be, from the former rows that
``import_todo`` names, as ``import_job`` and ``import_request`` have them. Values that have no place
in their column go into ``legacy`` as ``{"field": {"value": …, "why": …}}``; the column has a valid
value or null.
"""

from typing import Final

from job_service.jobs.limits import MAX_NAME, MAX_PROMPT
from job_service.legacy.mapping.misfits import SAID, UNFIT, WHY_COLUMNS, is_size
from job_service.legacy.mapping.picture_settings import LORAS, SAMPLER, SEED
from job_service.legacy.mapping.units import units
from job_service.legacy.mapping.words import STATUS_WORDS, TYPE_WORDS

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

_STRINGS_ONLY: Final = """(jsonb_typeof({name}) = 'array'
        AND NOT jsonb_path_exists(
            {name}, 'strict $[*] ? (@.type() != "string" || @ == "")', '{{}}', true
        ))"""


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
        SELECT written, {LORAS} AS loras
        FROM (
            SELECT CAST(lora_models AS text) AS written FROM import_job
            UNION SELECT CAST(lora_models AS text) FROM import_request
        ) AS lists
        CROSS JOIN LATERAL (SELECT CAST(written AS jsonb) AS lora_models OFFSET 0) AS read
        WHERE lora_models <> '[]' OFFSET 0
    ) AS understood
), unit AS ({units(origin)} OFFSET 0
), read AS (
    SELECT unit.*,
        {STATUS_WORDS.format(status="status")} AS status_word,
        {TYPE_WORDS.format(job_type="job_type")} AS type_word,
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
        CASE WHEN jsonb_typeof(sampler_given) = 'object' THEN {SAMPLER} END AS sampler,
        {SEED} AS good_seed
    FROM understood OFFSET 0
), questioned AS (
    SELECT sampled.*,
        {WHY_COLUMNS}
    FROM sampled OFFSET 0
), told AS (
    SELECT questioned.*, {UNFIT} AS unfit
    FROM questioned OFFSET 0
), judged AS (
    -- most rows have nothing to be kept
    SELECT told.*, CASE WHEN unfit = '{{}}' THEN kept
        ELSE ({SAID}) || coalesce(kept, '{{}}') END AS legacy
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
    CASE WHEN {is_size("width")} THEN width END,
    CASE WHEN {is_size("height")} THEN height END,
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


def _valid_time(name: str) -> str:
    return (
        f"CASE WHEN {name} BETWEEN '0001-01-01 00:00:00+00'"
        f" AND '9999-12-31 23:59:59.999999+00' THEN {name} END AS good_{name}"
    )
