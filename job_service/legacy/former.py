"""The tables of the former system: their names, and the columns that mean something."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

JOBS: Final = "generation_jobs"
REQUESTS: Final = "comfyui_generation_requests"
MODELS: Final = "available_models"

#: Tables whose rows become jobs.
JOB_TABLES: Final = (JOBS, REQUESTS)

Kind = Literal["uuid", "text", "bigint", "jsonb", "timestamptz"]


@dataclass(frozen=True, slots=True)
class Field:
    """A column of the former tables, and the type its values are read as."""

    name: str
    kind: Kind

    def as_json(self, value: str) -> str:
        """SQL for the JSON of ``value``, an expression of such a value."""
        return f"to_jsonb({time_text(value) if self.kind == 'timestamptz' else value})"


def time_text(value: str) -> str:
    """SQL for a point in time as the former tables wrote it."""
    return f"CAST({value} AT TIME ZONE 'UTC' AS text)"


#: Every column that ever meant something. A table has some of them.
FIELDS: Final = (
    Field("user_id", "uuid"),
    Field("job_type", "text"),
    Field("prompt", "text"),
    Field("negative_prompt", "text"),
    Field("checkpoint_model", "text"),
    Field("lora_models", "jsonb"),
    Field("width", "bigint"),
    Field("height", "bigint"),
    Field("batch_size", "bigint"),
    Field("sampler_params", "jsonb"),
    Field("parameters", "jsonb"),
    Field("params", "jsonb"),
    Field("status", "text"),
    Field("result_content_id", "bigint"),
    Field("content_id", "bigint"),
    Field("celery_task_id", "text"),
    Field("comfyui_prompt_id", "text"),
    Field("output_paths", "jsonb"),
    Field("thumbnail_paths", "jsonb"),
    Field("created_at", "timestamptz"),
    Field("updated_at", "timestamptz"),
    Field("started_at", "timestamptz"),
    Field("completed_at", "timestamptz"),
    Field("error_message", "text"),
)
FIELD_NAMES: Final = tuple(field.name for field in FIELDS)

_LIFE: Final = frozenset(
    ("id", "user_id", "prompt", "status", "created_at", "updated_at", "started_at", "completed_at")
)
_PICTURE: Final = frozenset(
    ("negative_prompt", "checkpoint_model", "lora_models", "width", "height", "batch_size")
)
_JOB: Final = _LIFE | {"job_type", "error_message"}

#: The columns of ``generation_jobs`` before and after the former merge, by state.
JOB_COLUMNS: Final[Mapping[str, frozenset[str]]] = {
    "A": _JOB | {"parameters", "result_content_id"},
    "B": _JOB | _PICTURE | {"params", "content_id", "celery_task_id", "comfyui_prompt_id"},
}
REQUEST_COLUMNS: Final = (
    _LIFE
    | _PICTURE
    | {"sampler_params", "comfyui_prompt_id", "output_paths", "thumbnail_paths", "error_message"}
)
