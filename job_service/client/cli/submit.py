"""``genjobs submit``."""

from pathlib import Path
from typing import Annotated

import typer
from generation_jobs.v1.job_pb2 import GenerationJob, JobType, Sampler, TemplateRef

from job_service.client.cli import session
from job_service.client.cli import submit_options as options
from job_service.client.cli.download import Thumbnails
from job_service.client.cli.option_syntax import (
    Argument,
    OptionSyntaxError,
    TemplateName,
    arguments_json,
    distinct_labels,
)
from job_service.client.cli.option_types import Json, OutputDirectory
from job_service.client.cli.submission import Submission
from job_service.client.client import new_request_id

Wait = Annotated[bool, typer.Option("--wait", "-w", help="Follow the job until it has ended.")]


def submit(
    context: typer.Context,
    *,
    prompt: options.Prompt,
    negative: options.Negative = "",
    checkpoint: options.Checkpoint = "",
    lora: options.Loras = None,
    width: options.Width = None,
    height: options.Height = None,
    batch: options.Batch = None,
    workflow: options.Workflow = None,
    template: options.Template = None,
    arg: options.Arguments = None,
    input: options.Inputs = None,  # noqa: A002  # the name of the option
    params: options.Params = "",
    job_type: options.Type = None,
    seed: options.Seed = None,
    steps: options.Steps = None,
    cfg: options.Cfg = None,
    sampler: options.SamplerName = "",
    scheduler: options.Scheduler = "",
    denoise: options.Denoise = None,
    priority: options.Priority = None,
    label: options.Labels = None,
    backend: options.Backend = "",
    user: options.User = "",
    scheduled_at: options.ScheduledAt = None,
    expires_at: options.ExpiresAt = None,
    max_attempts: options.MaxAttempts = None,
    attempt_timeout: options.AttemptTimeout = None,
    request_id: options.RequestId = None,
    wait: Wait = False,
    output: OutputDirectory = None,
    thumbnails: Thumbnails = False,
    json: Json = False,
) -> None:
    """Have something generated. --output saves its files; it and --thumbnails imply --wait.

    What is left out gets the service's default; the stored job says which. With --json the
    job is printed as stored, after waiting as it ended.
    """
    job = GenerationJob(
        prompt=prompt,
        negative_prompt=negative,
        checkpoint_model=checkpoint,
        lora_models=lora,
        width=width,
        height=height,
        batch_size=batch,
        params_json=params,
        sampler=Sampler(
            seed=seed,
            steps=steps,
            cfg=cfg,
            sampler_name=sampler,
            scheduler=scheduler,
            denoise=denoise,
        ),
        priority=priority,
        backend=backend,
        user_id=user,
        max_attempts=max_attempts,
        job_type=job_type or JobType.JOB_TYPE_UNSPECIFIED,
    )
    if scheduled_at is not None:
        job.scheduled_at.FromDatetime(scheduled_at)
    if expires_at is not None:
        job.expires_at.FromDatetime(expires_at)
    if attempt_timeout is not None:
        job.attempt_timeout.FromTimedelta(attempt_timeout)
    try:
        job.labels.update(distinct_labels(label or []))
    except OptionSyntaxError as error:
        raise typer.BadParameter(str(error), param_hint="--label") from error
    if workflow is not None and template is not None:
        raise typer.BadParameter("give one of the two", param_hint="--workflow / --template")
    if workflow is not None:
        job.workflow_json = _text_of(workflow)
    if template is not None:
        job.template.CopyFrom(_template_ref(template, arg or []))
    elif arg:
        raise typer.BadParameter("goes with --template", param_hint="--arg")
    submission = Submission(
        job,
        request_id or new_request_id(),
        inputs=input or [],
        wait=wait or output is not None or thumbnails,
        directory=(output or Path()) if output is not None or thumbnails else None,
        thumbnails=thumbnails,
        json=json,
    )
    session.run(context, submission.run)


def _template_ref(template: TemplateName, arguments: list[Argument]) -> TemplateRef:
    try:
        given = arguments_json(arguments)
    except OptionSyntaxError as error:
        raise typer.BadParameter(str(error), param_hint="--arg") from error
    return TemplateRef(name=template.name, version=template.version, arguments_json=given)


def _text_of(workflow: Path) -> str:
    """Answer the file's text exactly as it is: the service keeps graphs byte for byte."""
    try:
        return workflow.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{workflow}: {error}", param_hint="--workflow") from error
