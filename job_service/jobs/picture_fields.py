"""What a job says in fields of its own about the picture it wants, with defaults filled in."""

from collections.abc import Callable
from typing import Any

from generation_jobs.v1 import job_pb2

from job_service.jobs import limits
from job_service.jobs.fields import FieldChecks
from job_service.jobs.limits import Limits


def stored_loras(
    checks: FieldChecks, path: str, job: job_pb2.GenerationJob
) -> list[dict[str, Any]]:
    """LoRAs as they are stored, with both strengths."""
    if len(job.lora_models) > limits.MAX_LORAS:
        checks.wrong(
            path, f"must have at most {limits.MAX_LORAS} entries, has {len(job.lora_models)}"
        )
        return []
    stored = []
    for index, lora in enumerate(job.lora_models):
        at = f"{path}[{index}]"
        model = lora.strength_model if lora.HasField("strength_model") else None
        clip = lora.strength_clip if lora.HasField("strength_clip") else None
        if model is None:
            model = limits.DEFAULT_LORA_STRENGTH
        if clip is None:
            clip = model
        stored.append(
            {
                "name": checks.text(f"{at}.name", lora.name, shortest=1, longest=limits.MAX_NAME),
                "strength_model": checks.number(f"{at}.strength_model", model, low=-10, high=10),
                "strength_clip": checks.number(f"{at}.strength_clip", clip, low=-10, high=10),
            }
        )
    return stored


def size(
    checks: FieldChecks, at: str, job: job_pb2.GenerationJob, job_type: str | None, bounds: Limits
) -> tuple[int | None, int | None, int | None]:
    """Width, height and batch size; pictures have defaults, other types only what was given."""
    pictures = job_type == "image"

    def dimension(name: str, value: int | None, default: int) -> int | None:
        if value is None:
            return default if pictures else None
        return checks.integer(
            f"{at}{name}", value, low=64, high=bounds.max_dimension, multiple_of=8
        )

    batch_size: int | None = limits.DEFAULT_BATCH_SIZE if pictures else None
    if job.HasField("batch_size"):
        batch_size = checks.integer(
            f"{at}batch_size", job.batch_size, low=1, high=bounds.max_batch_size
        )
    return (
        dimension("width", job.width if job.HasField("width") else None, limits.DEFAULT_WIDTH),
        dimension("height", job.height if job.HasField("height") else None, limits.DEFAULT_HEIGHT),
        batch_size,
    )


def sampler_settings(
    checks: FieldChecks,
    at: str,
    job: job_pb2.GenerationJob,
    job_type: str | None,
    draw_seed: Callable[[], int],
) -> tuple[int | None, dict[str, Any] | None]:
    """Seed, and the other sampler settings as stored; None for types that are not sampled."""
    if job_type in ("text", "audio") and not job.HasField("sampler"):
        return None, None
    sampler = job.sampler
    if not sampler.HasField("seed") or sampler.seed == -1:
        seed = draw_seed()
    else:
        seed = checks.integer(f"{at}.seed", sampler.seed, low=0, high=limits.MAX_SEED)
    return seed, {
        "steps": checks.integer(
            f"{at}.steps",
            sampler.steps if sampler.HasField("steps") else limits.DEFAULT_STEPS,
            low=1,
            high=150,
        ),
        "cfg": checks.number(
            f"{at}.cfg",
            sampler.cfg if sampler.HasField("cfg") else limits.DEFAULT_CFG,
            low=0,
            high=30,
        ),
        "sampler_name": checks.text(
            f"{at}.sampler_name",
            sampler.sampler_name or limits.DEFAULT_SAMPLER,
            longest=limits.MAX_WORD,
        ),
        "scheduler": checks.text(
            f"{at}.scheduler",
            sampler.scheduler or limits.DEFAULT_SCHEDULER,
            longest=limits.MAX_WORD,
        ),
        "denoise": checks.number(
            f"{at}.denoise",
            sampler.denoise if sampler.HasField("denoise") else limits.DEFAULT_DENOISE,
            low=0,
            high=1,
        ),
    }
