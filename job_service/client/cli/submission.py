"""Sending a job, and what follows if somebody waits for it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from generation_jobs.v1.job_pb2 import GenerationJob
from rich.console import Console

from job_service.client.cli import console
from job_service.client.cli.exit_codes import ExitCode, exit_code_of
from job_service.client.cli.follow import follow
from job_service.client.cli.option_syntax import NamedInput
from job_service.client.cli.outcome import outcome_code, print_outcome
from job_service.client.cli.progress_display import progress_display
from job_service.client.cli.saving import files_of, save
from job_service.client.client import JobServiceClient
from job_service.client.errors import JobServiceError


@dataclass(frozen=True, slots=True)
class Submission:
    """A job to send; ``directory`` is where its files go, None: nowhere."""

    job: GenerationJob
    request_id: str
    inputs: Sequence[NamedInput]
    wait: bool
    directory: Path | None
    thumbnails: bool
    json: bool

    async def run(self, client: JobServiceClient) -> ExitCode:
        """Send the job, and wait for it and save its files if that is wanted."""
        # JSON has stdout for itself.
        output = console.stderr() if self.json else console.stdout()
        await self._bind_inputs(client)
        job = await self._stored(client)
        if not self.json:
            self._tell(job, output)
        code = ExitCode.OK
        if self.wait:
            job = await follow(client, job.id, progress_display(output, job.id))
            print_outcome(output, job)
            code = outcome_code(job)
        if self.json:
            console.print_json(job)
        if self.directory is not None:
            artifacts = files_of(job, thumbnails=self.thumbnails)
            await save(client, artifacts, self.directory, output)
        return code

    async def _bind_inputs(self, client: JobServiceClient) -> None:
        """Name the inputs in the job; files are uploaded, each once."""
        uploaded: dict[Path, int] = {}
        for name, source in self.inputs:
            if isinstance(source, Path):
                if source not in uploaded:
                    asset = await client.upload_input(source, user_id=self.job.user_id)
                    uploaded[source] = asset.id
                self.job.inputs.add(name=name, input_id=uploaded[source])
            else:
                self.job.inputs.add(name=name, input_id=source)

    async def _stored(self, client: JobServiceClient) -> GenerationJob:
        retrace = (
            "If the request did get through, the job exists. The same command with "
            f"--request-id {self.request_id} answers it instead of making a second one."
        )
        try:
            return await client.create_job(self.job, self.request_id)
        except JobServiceError as error:
            if exit_code_of(error) is ExitCode.UNREACHABLE:
                error.add_note(retrace)
            raise
        except asyncio.CancelledError:
            console.stderr().print(retrace, soft_wrap=True)
            raise

    def _tell(self, job: GenerationJob, output: Console) -> None:
        line = f"Job {job.id} is stored, seed {job.sampler.seed}."
        if not self.wait:
            line += f" 'genjobs watch {job.id}' follows it."
        output.print(line, soft_wrap=True)
