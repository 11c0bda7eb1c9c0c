"""Strategies for whole former installations."""

from collections.abc import Callable
from typing import Any, Final

from hypothesis import strategies as st

from tests.legacy_import import old_values as values
from tests.legacy_import.old_content import OldContent, Row
from tests.legacy_import.old_shape import CONTENT_ITEMS, USERS, OldShape, State

_IDS: Final = st.integers(1, 60) | st.integers(1, 2_000_000_000)


@st.composite
def shapes(draw: st.DrawFn) -> OldShape:
    """A state, or a mixture of them."""
    return OldShape(
        state=draw(st.sampled_from(State)),
        identity=draw(st.booleans()),
        json_type=draw(st.sampled_from(["json", "jsonb"])),
        kept_columns=draw(st.booleans()),
        request_table=draw(st.sampled_from([None, None, True, False])),
        extra_columns=draw(st.booleans()),
        app_tables=draw(st.booleans()),
        on_delete=draw(st.sampled_from(["", "ON DELETE SET NULL"])),
        aware_timestamps=draw(st.booleans()),
        wide=draw(st.booleans()),
    )


@st.composite
def contents(
    draw: st.DrawFn,
    of_shapes: st.SearchStrategy[OldShape] | None = None,
    *,
    fewest: int = 0,
) -> OldContent:
    """An installation with rows of every kind, some requests merged into jobs already.

    ``fewest``: rows that each table has at least.
    """
    shape = draw(of_shapes if of_shapes is not None else shapes())
    ids = draw(st.lists(_IDS, min_size=fewest, max_size=7, unique=True))
    jobs = [_row(draw, shape.job_columns, job_id, shape) for job_id in ids]
    requests: list[Row] = []
    if shape.has_requests:
        ids = draw(st.lists(_IDS, min_size=fewest, max_size=7, unique=True))
        made = [_row(draw, shape.request_columns, request_id, shape) for request_id in ids]
        requests = _unique_prompt_ids([_perhaps_merged(draw, row, jobs) for row in made])
    known = [int(job["id"] or 0) for job in jobs]
    return OldContent(
        shape,
        jobs,
        requests,
        notified=draw(st.lists(st.sampled_from(known), max_size=3)) if known else (),
        sequences_behind=draw(st.booleans()),
    )


def _row(draw: st.DrawFn, columns: dict[str, str], row_id: int, shape: OldShape) -> Row:
    required = set()
    if "output_paths" in columns:
        required = {"checkpoint_model", "width", "height", "batch_size"}
    row: dict[str, str | None] = {"id": str(row_id)}
    for column, kind in columns.items():
        value = draw(_VALUES[column](shape, strict=kind != "json"))
        absent = column not in required and draw(st.integers(0, 7)) == 0
        row[column] = None if absent else value
    return row


def _perhaps_merged(draw: st.DrawFn, request: Row, jobs: list[Row]) -> Row:
    """The request, or one that the merge had made a job of already."""
    how = draw(st.sampled_from(["not", "by prompt id", "by what was asked", "both"]))
    if how == "not" or not jobs:
        return request
    job = draw(st.sampled_from(jobs))
    merged = dict(request)
    if how != "by what was asked" and job.get("comfyui_prompt_id") is not None:
        merged["comfyui_prompt_id"] = job["comfyui_prompt_id"]
    if how != "by prompt id":
        merged |= {column: job[column] for column in ("user_id", "prompt", "created_at")}
    return merged


def _unique_prompt_ids(requests: list[Row]) -> list[Row]:
    seen: set[str | None] = {None}
    unique = []
    for request in requests:
        repeated = request["comfyui_prompt_id"] in seen
        unique.append({**request, "comfyui_prompt_id": None} if repeated else request)
        seen.add(request["comfyui_prompt_id"])
    return unique


_Strategy = Callable[..., st.SearchStrategy[Any]]


def _seldom(usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 5).flatmap(lambda n: odd if n == 0 else usual)


def _always(strategy: st.SearchStrategy[Any]) -> _Strategy:
    return lambda shape, *, strict: strategy


def _texts_of_any_length(longest: int, usual: st.SearchStrategy[str]) -> _Strategy:
    """Longer than ours only where the former column had no limit."""
    longer = usual | st.just("長" * (longest + 1))
    return lambda shape, *, strict: _seldom(usual, longer) if shape.wide else usual


_VALUES: Final[dict[str, _Strategy]] = {
    "user_id": _always(st.sampled_from(USERS)),
    "job_type": _always(_seldom(values.JOB_TYPES, values.ODD_JOB_TYPES)),
    "prompt": _texts_of_any_length(20_000, values.PROMPTS),
    "negative_prompt": _texts_of_any_length(20_000, values.TEXTS | values.BLANKS),
    "status": _always(_seldom(values.STATUSES, values.ODD_STATUSES)),
    "parameters": lambda shape, *, strict: values.documents(strict=strict),
    "params": lambda shape, *, strict: values.documents(strict=strict),
    "result_content_id": _always(st.sampled_from(CONTENT_ITEMS).map(str)),
    "content_id": _always(st.sampled_from(CONTENT_ITEMS).map(str)),
    "celery_task_id": _always(st.uuids().map(str)),
    "checkpoint_model": _texts_of_any_length(255, values.CHECKPOINTS),
    "lora_models": lambda shape, *, strict: values.lora_models(strict=strict),
    "width": _always(_seldom(values.SIZES, values.ODD_SIZES)),
    "height": _always(_seldom(values.SIZES, values.ODD_SIZES)),
    "batch_size": _always(_seldom(values.BATCHES, values.ODD_BATCHES)),
    "sampler_params": lambda shape, *, strict: values.sampler_params(strict=strict),
    "comfyui_prompt_id": _always(st.uuids().map(str)),
    "output_paths": lambda shape, *, strict: values.paths(strict=strict),
    "thumbnail_paths": lambda shape, *, strict: values.paths(strict=strict),
    "created_at": _always(values.MOMENTS),
    "updated_at": _always(values.MOMENTS),
    "started_at": _always(values.MOMENTS),
    "completed_at": _always(values.MOMENTS),
    "error_message": _always(values.TEXTS | st.just("Traceback (most recent call last):\n" * 300)),
    "rating": _always(st.sampled_from(["4.50", "0", "-1e20"])),
    "moderation": lambda shape, *, strict: values.json_values(strict=strict).map(values.written),
    "favourite": _always(st.sampled_from(["true", "false"])),
}
