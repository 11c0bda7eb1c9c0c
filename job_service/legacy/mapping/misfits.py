"""Values of a former row that have no place in their column, and why."""

from typing import Final

from job_service.jobs.limits import MAX_NAME, MAX_PARAMS_BYTES, MAX_PROMPT
from job_service.legacy import former

#: Why a job that is queued again is listed when it names none: workers fail pictures without one.
NEEDS_CHECKPOINT: Final = "is not named, and a picture needs one: give it with --checkpoint"


def is_size(name: str) -> str:
    """The condition that a width or height can be used."""
    return f"{name} BETWEEN 64 AND 8192 AND {name} % 8 = 0"


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
        f"CASE WHEN NOT ({is_size('width')}) THEN 'must be 64 to 8192, and a multiple of 8' END",
    ),
    (
        "height",
        f"CASE WHEN NOT ({is_size('height')}) THEN 'must be 64 to 8192, and a multiple of 8' END",
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


def _what_is_said() -> str:
    """What is said of field ``n``: worked out for few rows, and for few fields of them."""
    kinds = {field.name: field for field in former.FIELDS}
    cases = []
    for n, (name, _) in enumerate(_WHYS):
        value = _VALUES.get(name, name)
        json = kinds[name].as_json(value) if name in kinds else f"to_jsonb({value})"
        cases.append(f"WHEN {n} THEN jsonb_build_object('value', {json}, 'why', why_{n})")
    return "\n            ".join(cases)


_NAMES: Final = f"'{{{','.join(name for name, _ in _WHYS)}}}'::text[]"
_NUMBERS: Final = ", ".join(
    f"CASE WHEN why_{n} IS NOT NULL THEN {n} END" for n in range(len(_WHYS))
)

#: Columns ``why_n``: why the value of field ``n`` has no place.
WHY_COLUMNS: Final = ",\n        ".join(f"{why} AS why_{n}" for n, (_, why) in enumerate(_WHYS))
#: From these, the numbers of the fields whose value has no place.
UNFIT: Final = f"array_remove(ARRAY[{_NUMBERS}], NULL)"
#: From the numbers, as ``unfit``: field → value, and why.
SAID: Final = f"""
        SELECT jsonb_object_agg(({_NAMES})[n + 1], CASE n
            {_what_is_said()}
        END) FROM unnest(unfit) AS n
"""
