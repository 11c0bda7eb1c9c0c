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
from job_service.jobs.limits import Limits
from job_service.jobs.new_job import NewJob
from job_service.jobs.picture_fields import stored_loras
from job_service.jobs.principal import Principal
from job_service.jobs.recipe_book import EMPTY_BOOK, RecipeBook
from job_service.jobs.recipes import bound_inputs, recipe_of, text_to_image
from job_service.jobs.refusals import RefusedError, Violation, invalid_fields
from job_service.jobs.routing import Needs
from job_service.jobs.states import TYPE_FROM_WIRE

_SHORTEST_TIMEOUT: Final = timedelta(seconds=10)
_LONGEST_TIMEOUT: Final = timedelta(hours=24)
#: More violations than an answer has room for; for later ones nobody looks up what was meant.
_VIOLATIONS_HINTED: Final = 50


def draw_seed() -> int:
    """A fresh seed, 0 to 2^53-1."""
    return secrets.randbelow(limits.DRAWN_SEED_BOUND)


def new_job(
    request: generation_job_service_pb2.CreateJobRequest,
    principal: Principal,
    bounds: Limits,
    book: RecipeBook = EMPTY_BOOK,
    *,
    path: str = "",
    hints: bool = True,
    draw_seed: Callable[[], int] = draw_seed,
) -> NewJob:
    """Check a CreateJobRequest and fill in every default.

    ``book`` has what the job refers to. ``path`` is put before field paths, for requests inside a
    batch. ``hints``: say of unknown names what may have been meant. Raises RefusedError with
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
    brings_graph = job.WhichOneof("recipe") is not None
    if job_type == "image" and not brings_graph and not job.checkpoint_model:
        checks.wrong(f"{at}checkpoint_model", "is required unless the job brings a workflow")

    loras = stored_loras(checks, f"{at}lora_models", job)
    inputs = bound_inputs(checks, f"{at}inputs", job, user_id, book)
    recipe = (
        recipe_of(checks, at, job, user_id, bounds, book, draw_seed)
        if brings_graph
        else text_to_image(checks, at, job, job_type, bounds, draw_seed)
    )
    params = _params(checks, f"{at}params_json", job.params_json)
    if recipe.sampler_params is not None:
        params["sampler_params"] = recipe.sampler_params
    priority = checks.integer(f"{at}priority", job.priority, low=-100, high=100)
    if priority > 0 and not principal.may_raise_priority:
        checks.wrong(f"{at}priority", "only a gateway or an admin may raise it above 0")
    scheduled_at, expires_at = _schedule(checks, at, job)
    request_id = checks.text(f"{path}request_id", request.request_id, longest=limits.MAX_REQUEST_ID)
    backend = checks.text(f"{at}backend", job.backend, longest=limits.MAX_WORD)
    here = book.offered.get(backend or limits.DEFAULT_BACKEND)
    rare_sampler, rare_scheduler = here.rare_settings(job) if here is not None else ("", "")
    if here is not None and bounds.refuse_unknown_models and not brings_graph:
        here.note_unknown(checks, at, job, hints=hints)
    new = NewJob(
        user_id=user_id,
        job_type=job_type or "",
        prompt=prompt,
        negative_prompt=job.negative_prompt,
        checkpoint_model=recipe.checkpoint_model,
        lora_models=loras,
        width=recipe.width,
        height=recipe.height,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        params=params,
        workflow=recipe.workflow,
        template_name=job.template.name if recipe.template_version is not None else None,
        template_version=recipe.template_version,
        template_arguments=recipe.template_arguments,
        inputs=inputs,
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
            # What makes a graph's result is its nodes: any worker that has them will do.
            job_type="" if brings_graph else job_type or "",
            backend_label=backend or limits.DEFAULT_BACKEND,
            checkpoint=recipe.needs.checkpoint,
            loras=recipe.needs.loras,
            node_classes=recipe.needs.node_classes,
            sampler=rare_sampler,
            scheduler=rare_scheduler,
        ),
    )
    checks.raise_if_wrong()
    return new


def new_jobs(
    request: generation_job_service_pb2.BatchCreateJobsRequest,
    principal: Principal,
    bounds: Limits,
    book: RecipeBook = EMPTY_BOOK,
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
            hints = len(violations) < _VIOLATIONS_HINTED
            path = f"requests[{n}]."
            jobs.append(new_job(one, principal, bounds, book, path=path, hints=hints))
        except RefusedError as error:
            violations += error.violations
    if violations:
        raise invalid_fields(violations)
    return jobs


def owner(checks: FieldChecks, path: str, user_id: str, principal: Principal) -> UUID:
    """The user a job shall belong to."""
    own = principal.user_id
    named = checks.uuid(path, user_id) if user_id else None
    if named is None:
        if own is None and not user_id:
            checks.wrong(path, "must name the user, unless x-on-behalf-of metadata does")
    elif principal.acts_for_anyone:
        return named
    elif named != own:
        # What the request refers to is not looked for among somebody else's things.
        checks.wrong(path, principal.why_no_other_user)
    return own or UUID(int=0)


def request_hash(job: job_pb2.GenerationJob, user_id: UUID) -> bytes:
    """SHA-256 of the job as sent, before defaults, in a form that does not depend on map order."""
    return hashlib.sha256(user_id.bytes + job.SerializeToString(deterministic=True)).digest()


def _params(checks: FieldChecks, path: str, text: str) -> dict[str, Any]:
    if not text:
        return {}
    params = checks.json_object(path, text, max_bytes=limits.MAX_PARAMS_BYTES)
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


def _labels(checks: FieldChecks, path: str, job: job_pb2.GenerationJob) -> dict[str, str]:
    if len(job.labels) > limits.MAX_LABELS:
        checks.wrong(path, f"must have at most {limits.MAX_LABELS} entries, has {len(job.labels)}")
        return {}
    labels = dict(job.labels)
    for key, value in labels.items():
        at = f"{path}[{key[:63]!r}]"
        checks.text(at, key, shortest=1, longest=limits.MAX_WORD)
        checks.text(at, value, longest=limits.MAX_NAME)
    return labels
