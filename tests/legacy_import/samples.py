"""A small installation of each kind with one row for everything that matters."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any, Final
from uuid import UUID

from tests.legacy_import.old_content import OldContent, Row
from tests.legacy_import.old_shape import USERS, OldShape, State
from tests.legacy_import.old_values import Number, Pairs, written

#: What acceptance asks for: the three states, and mixtures of them.
SHAPES: Final = {
    "A": OldShape(state=State.A),
    "B": OldShape(state=State.B, on_delete="ON DELETE SET NULL"),
    "C": OldShape(state=State.C, identity=True, on_delete="ON DELETE SET NULL"),
    "both column sets": OldShape(
        state=State.B, kept_columns=True, json_type="json", extra_columns=True, wide=True
    ),
    "A without requests": OldShape(state=State.A, request_table=False, identity=True),
    "C with requests": OldShape(
        state=State.C, request_table=True, aware_timestamps=True, json_type="json"
    ),
    "no application tables": OldShape(state=State.A, app_tables=False, identity=True),
}

_CREATED: Final = "2024-05-06 07:08:09.123456"


def sample(shape: OldShape) -> OldContent:
    """The installation; rows have the columns that its shape has."""
    jobs = [
        _fitted({"id": str(job_id), **_job(**fields)}, shape.job_columns)
        for job_id, fields in zip(_ids(), _JOBS, strict=False)
    ]
    requests = [
        request(shape, number, **fields)
        for number, fields in zip(count(1), _REQUESTS, strict=False)
    ]
    return OldContent(
        shape,
        jobs,
        requests if shape.has_requests else (),
        notified=[int(jobs[0]["id"] or 0), int(jobs[1]["id"] or 0)],
        sequences_behind=not shape.identity,
    )


def without(content: OldContent, *, job: int) -> OldContent:
    """The same but for one job."""
    kept = [row for row in content.jobs if row["id"] != str(job)]
    return replace(content, jobs=kept, notified=[one for one in content.notified if one != job])


def _ids() -> Iterator[int]:
    """From 3, and with a gap."""
    yield from (3, 4, 5, 6)
    yield from count(101)


def _fitted(row: dict[str, Any], columns: dict[str, str]) -> Row:
    return {name: value for name, value in row.items() if name == "id" or name in columns}


def prompt_id(number: int) -> str:
    """One that ComfyUI could have given."""
    return str(UUID(int=number, version=4))


def _job(**fields: Any) -> dict[str, Any]:
    status = fields.get("status", "completed")
    ended = "2024-05-06 07:10:00" if status in ("completed", "failed", "cancelled") else None
    usual = {
        "user_id": USERS[0],
        "job_type": "image",
        "prompt": "a red fox in the snow",
        "status": "completed",
        "parameters": written({"style": "oil", "steps": 30}),
        "params": written({"style": "oil"}),
        "result_content_id": None,
        "content_id": None,
        "celery_task_id": None,
        "negative_prompt": None,
        "checkpoint_model": None,
        "lora_models": None,
        "width": None,
        "height": None,
        "batch_size": None,
        "comfyui_prompt_id": None,
        "created_at": _CREATED,
        "updated_at": "2024-05-06 07:10:00.5",
        "started_at": None if status == "pending" else "2024-05-06 07:08:30",
        "completed_at": ended,
        "error_message": None,
        "rating": "4.50",
        "moderation": written({"flags": []}),
    }
    return usual | fields


def request(shape: OldShape, request_id: int, **fields: Any) -> Row:
    """A completed request, but for what ``fields`` say."""
    usual = _job(**fields) | {
        "id": str(request_id),
        "checkpoint_model": "sdxl.safetensors",
        "width": "832",
        "height": "1216",
        "batch_size": "1",
        "lora_models": written([{"name": "detail.safetensors", "strength_model": 0.5}]),
        "sampler_params": written(
            {"seed": 42, "steps": 20, "cfg": 7.5, "sampler_name": "euler", "scheduler": "karras"}
        ),
        "output_paths": None,
        "thumbnail_paths": None,
        "favourite": "true",
    }
    return _fitted(usual | fields, shape.request_columns)


_JOBS: Final[list[dict[str, Any]]] = [
    {"content_id": "7", "result_content_id": "7", "celery_task_id": prompt_id(900)},
    {"status": "failed", "error_message": "CUDA out of memory", "job_type": "image_generation"},
    {"status": "cancelled", "job_type": "text_generation", "user_id": None},
    {"status": "pending", "prompt": "waits", "checkpoint_model": "sdxl.safetensors",
     "width": "512", "height": "512", "batch_size": "1"},
    {"status": "processing", "checkpoint_model": "sdxl.safetensors"},
    {"status": "running", "comfyui_prompt_id": prompt_id(1), "error_message": "was slow"},
    {"status": "started", "job_type": "video"},
    # merged by its prompt id: the request knows more
    {"comfyui_prompt_id": prompt_id(2), "prompt": "山の中の赤い狐 🦊", "width": "640"},
    # merged by what was asked
    {"prompt": "the same question", "created_at": "2024-06-01 12:00:00.000001"},
    # values that have no place
    {"prompt": "", "status": "exploded", "job_type": "music", "width": "100", "height": "-8",
     "batch_size": "0"},
    {"prompt": "狐" * 20_000, "parameters": written([1, 2]), "params": written("text")},
    {"parameters": written({"legacy": 1}), "params": written({"legacy": {"a": 1}}),
     "lora_models": written(["detail", {"lora_name": "x"}])},
    {"parameters": written({"n": Number("1.00000000000000000001"), "big": Number("1e400")}),
     "params": written({"n": Number("9007199254740993"), "sampler_params": {"steps": 30,
                        "eta": 0.5}})},
    {"status": "completed", "completed_at": None, "started_at": None},
    {"status": "failed", "error_message": None},
    {"status": "completed", "error_message": "Traceback\n" * 400},
    {"status": None, "job_type": None, "created_at": None, "updated_at": None},
    {"created_at": "infinity", "updated_at": "0044-03-15 12:00:00 BC"},
    {"parameters": written({f"key {n}": "🦊 snow " * 5 for n in range(4_000)})},
    # merged with a request that had asked for other settings
    {"prompt": "settled otherwise", "parameters": written({"sampler_params": {"steps": 30}}),
     "params": written({"sampler_params": {"steps": 30}})},
    # merged with a request whose settings cannot be used, and without any of its own
    {"prompt": "settled by nobody", "parameters": written({"sampler_params": None}),
     "params": written({"sampler_params": None})},
]  # fmt: skip

_REQUESTS: Final[list[dict[str, Any]]] = [
    {"comfyui_prompt_id": prompt_id(2), "prompt": "山の中の赤い狐 🦊", "negative_prompt": "text",
     "width": "832", "output_paths": written(["2024/05/fox_00001_.png", "2024/05/fox_00002_.png"]),
     "thumbnail_paths": written(["thumbs/fox_00001_.webp"])},
    {"prompt": "the same question", "created_at": "2024-06-01 12:00:00.000001",
     "user_id": USERS[0], "negative_prompt": "blurry"},
    # a second request of the same question: a job of its own
    {"prompt": "the same question", "created_at": "2024-06-01 12:00:00.000001",
     "user_id": USERS[0], "negative_prompt": "dark"},
    {"prompt": "never merged", "comfyui_prompt_id": prompt_id(3),
     "output_paths": written(["a.png"]), "width": "100"},
    {"status": "pending", "prompt": "never merged, waits"},
    {"status": "failed", "error_message": "node 4 failed", "prompt": "failed there",
     "sampler_params": written([1])},
    {"prompt": "odd settings", "sampler_params": written({"seed": -1, "steps": "20",
     "cfg": None, "eta": 0.5}), "checkpoint_model": "c" * 255},
    {"prompt": "files", "output_paths": written({"images": ["b.png"]}),
     "thumbnail_paths": written("c.webp")},
    {"prompt": "a key twice", "sampler_params": written(Pairs([("steps", 1), ("steps", 2)])),
     "output_paths": written(None)},
    {"prompt": "settled otherwise", "created_at": _CREATED, "user_id": USERS[0],
     "sampler_params": written({"steps": 20, "seed": -1})},
    {"prompt": "settled by nobody", "created_at": _CREATED, "user_id": USERS[0],
     "sampler_params": written({"steps": 20, "seed": 2**64 - 1})},
]  # fmt: skip
