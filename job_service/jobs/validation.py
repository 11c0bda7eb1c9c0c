"""From what a client sent to a job that can be stored, or to everything that is wrong with it."""

import hashlib
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from generation_jobs.v1 import generation_job_service_pb2, job_pb2

from job_service.jobs import limits
from job_service.jobs.fields import FieldChecks
from job_service.jobs.input_bindings import input_bindings
from job_service.jobs.limits import Limits
from job_service.jobs.new_job import NewJob
from job_service.jobs.principal import Principal
from job_service.jobs.refusals import RefusedError, Violation, invalid_fields
from job_service.jobs.routing import Needs
from job_service.jobs.states import TYPE_FROM_WIRE

_SHORTEST_TIMEOUT: Final = timedelta(seconds=10)
_LONGEST_TIMEOUT: Final = timedelta(hours=24)


def draw_seed() -> int:
    """A fresh seed, 0 to 2^53-1."""
    return secrets.randbelow(limits.DRAWN_SEED_BOUND)


def new_job(
    request: generation_job_service_pb2.CreateJobRequest,
    principal: Principal,
    bounds: Limits,
    *,
    path: str = "",
    draw_seed: Callable[[], int] = draw_seed,
) -> NewJob:
    """Check a CreateJobRequest and fill in every default.

    ``path`` is put before field paths, for requests inside a batch. Raises RefusedError with
    INVALID_FIELDS, naming every violation.
    """
    checks = FieldChecks()
    job = request.job
    at = f"{path}job."
    user_id = owner(checks, f"{at}user_id", job.user_id, principal)
    job_type = (
        checks.enum(f"{at}job_type", job.job_type, TYPE_FROM_WIRE) if job.job_type else "image"
    )
    prompt = checks.text(f"{at}prompt", job.prompt, shortest=1, longest=limits.MAX_PROMPT)
    if prompt and not prompt.strip():
        checks.wrong(f"{at}prompt", "must not be blank")
    checks.text(f"{at}negative_prompt", job.negative_prompt, longest=limits.MAX_PROMPT)
    checks.text(f"{at}checkpoint_model", job.checkpoint_model, longest=limits.MAX_NAME)
    recipe = job.WhichOneof("recipe")
    if job_type == "image" and recipe is None and not job.checkpoint_model:
        checks.wrong(f"{at}checkpoint_model", "is required unless the job brings a workflow")

    loras = _loras(checks, f"{at}lora_models", job)
    width, height, batch_size = _size(checks, at, job, job_type, bounds)
    seed, sampler_params = _sampler(checks, f"{at}sampler", job, job_type, draw_seed)
    params = _params(checks, f"{at}params_json", job.params_json)
    if sampler_params is not None:
        params["sampler_params"] = sampler_params
    priority = checks.integer(f"{at}priority", job.priority, low=-100, high=100)
    if priority > 0 and not principal.acts_for_anyone:
        checks.wrong(f"{at}priority", "only a gateway or an admin may raise it above 0")
    scheduled_at, expires_at = _schedule(checks, at, job)
    request_id = checks.text(f"{path}request_id", request.request_id, longest=limits.MAX_REQUEST_ID)
    backend = checks.text(f"{at}backend", job.backend, longest=limits.MAX_WORD)
    workflow, template = _recipe(checks, at, job)
    new = NewJob(
        user_id=user_id,
        job_type=job_type or "",
        prompt=prompt,
        negative_prompt=job.negative_prompt,
        checkpoint_model=job.checkpoint_model or None,
        lora_models=loras,
        width=width,
        height=height,
        batch_size=batch_size,
        seed=seed,
        params=params,
        workflow=workflow,
        template_name=template.name if template else None,
        template_version=template.version if template else None,
        template_arguments=(
            checks.json_object(
                f"{at}template.arguments_json",
                template.arguments_json or "{}",
                max_bytes=limits.MAX_PARAMS_BYTES,
            )
            if template
            else None
        ),
        inputs=_inputs(checks, f"{at}inputs", job),
        labels=_labels(checks, f"{at}labels", job),
        backend_label=backend or limits.DEFAULT_BACKEND,
        content_id=job.content_id if job.HasField("content_id") else None,
        priority=priority,
        scheduled_at=scheduled_at,
        expires_at=expires_at,
        max_attempts=(
            checks.integer(f"{at}max_attempts", job.max_attempts, low=1, high=20)
            if job.HasField("max_attempts")
            else limits.DEFAULT_MAX_ATTEMPTS
        ),
        attempt_timeout=(
            checks.duration(
                f"{at}attempt_timeout",
                job.attempt_timeout,
                low=_SHORTEST_TIMEOUT,
                high=_LONGEST_TIMEOUT,
            )
            if job.HasField("attempt_timeout")
            else bounds.attempt_timeout
        ),
        request_id=request_id or None,
        request_hash=request_hash(job, user_id) if request_id else None,
        needs=Needs(
            job_type=job_type or "",
            backend_label=backend or limits.DEFAULT_BACKEND,
            checkpoint=job.checkpoint_model,
            loras=tuple(sorted({lora.name for lora in job.lora_models})),
        ),
    )
    checks.raise_if_wrong()
    return new


def new_jobs(
    request: generation_job_service_pb2.BatchCreateJobsRequest,
    principal: Principal,
    bounds: Limits,
) -> list[NewJob]:
    """Check every request of a batch.

    Raises RefusedError with INVALID_FIELDS, naming every violation of every request.
    """
    if not 1 <= len(request.requests) <= limits.MAX_BATCH_CREATE:
        checks = FieldChecks()
        checks.wrong("requests", f"must have 1 to {limits.MAX_BATCH_CREATE:,} entries")
        checks.raise_if_wrong()
    jobs: list[NewJob] = []
    violations: list[Violation] = []
    for n, one in enumerate(request.requests):
        try:
            jobs.append(new_job(one, principal, bounds, path=f"requests[{n}]."))
        except RefusedError as error:
            violations += error.violations
    if violations:
        raise invalid_fields(violations)
    return jobs


def owner(checks: FieldChecks, path: str, user_id: str, principal: Principal) -> UUID:
    """The user a job shall belong to."""
    if not user_id:
        return principal.user_id
    named = checks.uuid(path, user_id)
    if named is None:
        return principal.user_id
    if named != principal.user_id and not principal.acts_for_anyone:
        checks.wrong(path, "only a gateway or an admin may name another user")
    return named


def request_hash(job: job_pb2.GenerationJob, user_id: UUID) -> bytes:
    """SHA-256 of the job as sent, before defaults, in a form that does not depend on map order."""
    return hashlib.sha256(user_id.bytes + job.SerializeToString(deterministic=True)).digest()


def _loras(checks: FieldChecks, path: str, job: job_pb2.GenerationJob) -> list[dict[str, Any]]:
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


def _size(
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


def _sampler(
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


def _params(checks: FieldChecks, path: str, text: str) -> dict[str, Any]:
    params = checks.json_object(path, text or "{}", max_bytes=limits.MAX_PARAMS_BYTES)
    if "sampler_params" in params:
        checks.wrong(path, 'must not hold "sampler_params": use the field sampler')
    return params


def _schedule(
    checks: FieldChecks, at: str, job: job_pb2.GenerationJob
) -> tuple[datetime | None, datetime | None]:
    scheduled_at = expires_at = None
    if job.HasField("scheduled_at"):
        scheduled_at = checks.timestamp(f"{at}scheduled_at", job.scheduled_at)
    if job.HasField("expires_at"):
        expires_at = checks.timestamp(f"{at}expires_at", job.expires_at)
    if scheduled_at and expires_at and expires_at <= scheduled_at:
        checks.wrong(f"{at}expires_at", "must be later than scheduled_at")
    return scheduled_at, expires_at


def _recipe(
    checks: FieldChecks, at: str, job: job_pb2.GenerationJob
) -> tuple[str | None, job_pb2.TemplateRef | None]:
    """Workflow text and template reference.

    Neither is run by this version, so a job that brings one is refused at once instead of
    waiting for a worker that never comes.
    """
    match job.WhichOneof("recipe"):
        case "workflow_json":
            checks.wrong(f"{at}workflow_json", "this version runs only the built-in text-to-image")
            return job.workflow_json, None
        case "template":
            checks.wrong(f"{at}template", "this version runs only the built-in text-to-image")
            return None, job.template
    return None, None


def _inputs(checks: FieldChecks, path: str, job: job_pb2.GenerationJob) -> list[dict[str, Any]]:
    if job.inputs and job.WhichOneof("recipe") is None:
        checks.wrong(path, "nothing uses them: the built-in text-to-image starts from noise")
        return []
    return input_bindings(checks, path, job.inputs)


def _labels(checks: FieldChecks, path: str, job: job_pb2.GenerationJob) -> dict[str, str]:
    if len(job.labels) > limits.MAX_LABELS:
        checks.wrong(path, f"must have at most {limits.MAX_LABELS} entries, has {len(job.labels)}")
        return {}
    for key, value in job.labels.items():
        checks.text(f"{path}[{key[:63]!r}]", key, shortest=1, longest=limits.MAX_WORD)
        checks.text(f"{path}[{key[:63]!r}]", value, longest=limits.MAX_NAME)
    return dict(job.labels)
