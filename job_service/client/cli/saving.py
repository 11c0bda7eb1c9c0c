"""Files of a job, from the service into a directory."""

import asyncio
from functools import partial
from pathlib import Path

from generation_jobs.v1.artifact_pb2 import Artifact, ArtifactRole
from generation_jobs.v1.job_pb2 import GenerationJob
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from job_service.client.cli.artifact_names import artifact_filename
from job_service.client.cli.figures import pixels, size
from job_service.client.cli.terminal_text import printable
from job_service.client.client import JobServiceClient


def files_of(job: GenerationJob, *, thumbnails: bool) -> list[Artifact]:
    """Answer the outputs of a job in view FULL, on request with their thumbnails."""
    roles = {ArtifactRole.ARTIFACT_ROLE_OUTPUT}
    if thumbnails:
        roles.add(ArtifactRole.ARTIFACT_ROLE_THUMBNAIL)
    return [artifact for artifact in job.artifacts if artifact.role in roles]


async def save(
    client: JobServiceClient, artifacts: list[Artifact], directory: Path, output: Console
) -> None:
    """Download ``artifacts`` into ``directory``, which is made if it is missing.

    Prints each file once it is there. Raises OSError and JobServiceError.
    """
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=output,
        transient=True,
        disable=not output.is_terminal,
    ) as progress:
        for artifact in artifacts:
            path = directory / artifact_filename(artifact)
            task = progress.add_task(path.name, total=artifact.size)
            show = partial(_show_bytes, progress, task)
            await client.download(artifact.id, path, on_bytes=show)
            progress.remove_task(task)
            progress.console.print(_saved(path, artifact), soft_wrap=True)


def _show_bytes(progress: Progress, task: TaskID, count: int) -> None:
    progress.update(task, completed=count)


def _saved(path: Path, artifact: Artifact) -> Text:
    facts = [pixels(artifact.width, artifact.height)] if artifact.width else []
    facts.append(size(artifact.size))
    return Text.assemble(("Saved ", "green"), printable(str(path)), f" ({', '.join(facts)})")
