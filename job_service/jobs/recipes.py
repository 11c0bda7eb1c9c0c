"""What a job runs: the built-in text-to-image, a graph of its own, or a template with values."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from generation_jobs.v1 import job_pb2

from job_service.jobs import limits
from job_service.jobs.fields import FieldChecks
from job_service.jobs.input_bindings import input_bindings
from job_service.jobs.limits import Limits
from job_service.jobs.picture_fields import sampler_settings, size, stored_loras
from job_service.jobs.recipe_book import RecipeBook, TemplateKey
from job_service.workflows.job_fields import FIELD_PATHS
from job_service.workflows.loras import Lora
from job_service.workflows.needs import GraphNeeds
from job_service.workflows.preparation import PreparedGraph, prepare_template, prepare_workflow
from job_service.workflows.problems import InvalidWorkflowError

SAMPLER_SETTINGS: Final = ("steps", "cfg", "sampler_name", "scheduler", "denoise")

_NO_EFFECT: Final = "has no effect beside workflow_json: set it in the graph"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What is stored of what a job runs, named as the columns.

    What a graph decides and no field or parameter shows is None.
    """

    needs: GraphNeeds
    workflow: str | None = None
    checkpoint_model: str | None = None
    width: int | None = None
    height: int | None = None
    batch_size: int | None = None
    seed: int | None = None
    sampler_params: dict[str, Any] | None = None
    template_version: int | None = None
    template_arguments: dict[str, Any] | None = None


#: Of a job that is refused.
_NOTHING: Final = Recipe(needs=GraphNeeds("", (), ()))


def text_to_image(
    checks: FieldChecks,
    at: str,
    job: job_pb2.GenerationJob,
    job_type: str | None,
    bounds: Limits,
    draw_seed: Callable[[], int],
) -> Recipe:
    """The recipe of a job that brings none. Notes everything that is wrong."""
    width, height, batch_size = size(checks, at, job, job_type, bounds)
    seed, sampler_params = sampler_settings(checks, f"{at}sampler", job, job_type, draw_seed)
    return Recipe(
        needs=GraphNeeds(
            job.checkpoint_model, tuple(sorted({lora.name for lora in job.lora_models})), ()
        ),
        checkpoint_model=job.checkpoint_model or None,
        width=width,
        height=height,
        batch_size=batch_size,
        seed=seed,
        sampler_params=sampler_params,
    )


def recipe_of(
    checks: FieldChecks,
    at: str,
    job: job_pb2.GenerationJob,
    owner: UUID,
    bounds: Limits,
    book: RecipeBook,
    draw_seed: Callable[[], int],
) -> Recipe:
    """The recipe of a job that brings a graph or names a template.

    Notes everything that is wrong, with paths under ``at``.
    """
    try:
        if job.WhichOneof("recipe") == "template":
            return _from_template(checks, at, job, owner, bounds, book, draw_seed)
        return _from_graph(checks, at, job, book)
    except InvalidWorkflowError as error:
        for problem in error.problems:
            checks.wrong(at + problem.path, problem.description)
        return _NOTHING


def bound_inputs(
    checks: FieldChecks, path: str, job: job_pb2.GenerationJob, owner: UUID, book: RecipeBook
) -> list[dict[str, Any]]:
    """The job's inputs as they are stored."""
    if job.inputs and job.WhichOneof("recipe") is None:
        checks.wrong(path, "nothing uses them: the built-in text-to-image starts from noise")
        return []
    bindings = input_bindings(checks, path, job.inputs)
    for index, binding in enumerate(bindings):
        if binding["input_id"] > 0 and (owner, binding["input_id"]) not in book.inputs:
            checks.wrong(
                f"{path}[{index}].input_id", f"user {owner} has no input {binding['input_id']}"
            )
    return bindings


def _from_graph(
    checks: FieldChecks, at: str, job: job_pb2.GenerationJob, book: RecipeBook
) -> Recipe:
    _refuse_fields_without_effect(checks, at, job)
    prepared = prepare_workflow(
        job.workflow_json,
        inputs={binding.name for binding in job.inputs},
        loras=(),
        rules=book.rules.safety,
        signatures=book.signatures.get(job.backend or limits.DEFAULT_BACKEND),
        max_nodes=book.rules.max_nodes,
    )
    loads = prepared.needs.checkpoint
    if job.checkpoint_model not in ("", loads):
        checks.wrong(
            f"{at}checkpoint_model",
            f"must be empty or {loads!r}, which the graph loads: it {_NO_EFFECT}",
        )
    return Recipe(
        workflow=prepared.workflow_json, needs=prepared.needs, checkpoint_model=loads or None
    )


def _from_template(
    checks: FieldChecks,
    at: str,
    job: job_pb2.GenerationJob,
    owner: UUID,
    bounds: Limits,
    book: RecipeBook,
    draw_seed: Callable[[], int],
) -> Recipe:
    named = job.template
    template = book.templates.get(TemplateKey(owner, named.name, named.version))
    arguments = checks.json_object(
        f"{at}template.arguments_json",
        named.arguments_json or "{}",
        max_bytes=limits.MAX_PARAMS_BYTES,
    )
    if template is None:
        which = f" with version {named.version}" if named.version else ""
        checks.wrong(f"{at}template.name", f"there is no template {named.name[:63]!r}{which}")
        return _NOTHING
    prepared = prepare_template(
        template,
        arguments=arguments,
        fields=_given_fields(job),
        inputs={binding.name for binding in job.inputs},
        loras=[Lora(**lora) for lora in stored_loras(FieldChecks(), "", job)],
        draw_seed=draw_seed,
        rules=book.rules.safety,
        signatures=book.signatures.get(job.backend or limits.DEFAULT_BACKEND),
    )
    values = prepared.values
    _check_sizes(checks, at, values, bounds)
    sampler: dict[str, Any] = {name: values[name] for name in SAMPLER_SETTINGS if name in values}
    return Recipe(
        workflow=prepared.workflow_json,
        needs=prepared.needs,
        checkpoint_model=_checkpoint(prepared),
        width=values.get("width"),
        height=values.get("height"),
        batch_size=values.get("batch_size"),
        seed=values.get("seed"),
        sampler_params=sampler or None,
        template_version=template.version,
        template_arguments={
            name: value
            for name, value in values.items()
            if name not in FIELD_PATHS and name not in prepared.used_inputs
        },
    )


def _given_fields(job: job_pb2.GenerationJob) -> dict[str, Any]:
    """The fields of the job that a parameter may be named for, as far as they are set."""
    given: dict[str, Any] = {"prompt": job.prompt}
    for name in ("negative_prompt", "checkpoint_model"):
        if getattr(job, name):
            given[name] = getattr(job, name)
    for name in ("width", "height", "batch_size"):
        if job.HasField(name):  # type: ignore[arg-type]
            given[name] = getattr(job, name)
    sampler = job.sampler
    if sampler.HasField("seed") and sampler.seed != -1:
        given["seed"] = sampler.seed
    for field, value in sampler.ListFields():
        if field.name != "seed":
            given[field.name] = value
    return given


def _refuse_fields_without_effect(checks: FieldChecks, at: str, job: job_pb2.GenerationJob) -> None:
    for name in _given_fields(job):
        if name not in ("prompt", "negative_prompt", "checkpoint_model"):
            checks.wrong(at + FIELD_PATHS[name], _NO_EFFECT)
    if job.lora_models:
        checks.wrong(f"{at}lora_models", f"{_NO_EFFECT}, as LoraLoader nodes")


def _check_sizes(checks: FieldChecks, at: str, values: dict[str, Any], bounds: Limits) -> None:
    for name in ("width", "height"):
        if name in values:
            checks.integer(
                at + name, values[name], low=64, high=bounds.max_dimension, multiple_of=8
            )
    if "batch_size" in values:
        checks.integer(f"{at}batch_size", values["batch_size"], low=1, high=bounds.max_batch_size)
    if "checkpoint_model" in values:
        checks.text(f"{at}checkpoint_model", values["checkpoint_model"], longest=limits.MAX_NAME)


def _checkpoint(prepared: PreparedGraph) -> str | None:
    """What the job's row names as its checkpoint: the parameter's value, or what is loaded."""
    return prepared.values.get("checkpoint_model") or prepared.needs.checkpoint or None
