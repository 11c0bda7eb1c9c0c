"""One leased job, from its graph to the outcome that job_service has taken."""

import asyncio
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path
from typing import Final

import structlog
from generation_jobs.v1 import job_error_pb2
from generation_jobs.v1 import worker_service_pb2 as pb

from comfy_worker.comfyui import (
    Cancellation,
    ComfyBackend,
    ComfyError,
    ComfyUnreachableError,
    Failed,
    Graph,
    Interrupted,
    LossReason,
    Lost,
    Observers,
    Outcome,
    OutputMissingError,
    OutputTooLargeError,
    Succeeded,
)
from comfy_worker.monitoring.counted import Counted
from comfy_worker.worker.attempt_progress import AttemptProgress
from comfy_worker.worker.early_outputs import EarlyOutputs
from comfy_worker.worker.graph_inputs import GraphInputs, InputMissingError
from comfy_worker.worker.job_service_connection import JobServiceConnection
from comfy_worker.worker.outcome_report import OutcomeReport
from comfy_worker.worker.output_fetch import Output
from comfy_worker.worker.recipe import UnknownRecipeError, graph_of
from comfy_worker.worker.reports import failure_error, job_error, loss_error
from comfy_worker.worker.result_upload import ResultUpload
from comfy_worker.worker.run_times import RunTimes, kind_of
from comfy_worker.worker.scratch_folder import scratch_folder
from comfy_worker.worker.service_errors import JobServiceError, LeaseLostError
from comfy_worker.worker.upload_batches import MOST_BYTES

_RELEASE_SECONDS: Final = 5.0
_ADOPTION_SECONDS: Final = 5.0

log = structlog.get_logger(__name__)


class Stage(Enum):
    """What a job occupies: a slot of its ComfyUI, or only the worker."""

    RENDERING = auto()
    STORING = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """``outcome_hold`` in seconds: how long a result waits for an unreachable job_service."""

    outcome_hold: float
    max_output_bytes: int
    previews: bool


class JobRun:
    """Runs one lease.

    ``on_stage`` is called when a slot of the ComfyUI becomes free, ``on_news`` when there
    is progress to report.
    """

    def __init__(
        self,
        lease: pb.Lease,
        backend: ComfyBackend,
        service: JobServiceConnection,
        settings: RunSettings,
        run_times: RunTimes,
        counted: Counted,
        *,
        on_stage: Callable[[], None],
        on_news: Callable[[], None],
    ) -> None:
        self.lease = lease
        self.ref = pb.LeaseRef(job_id=lease.job_id, lease_token=lease.lease_token)
        self.backend_name = backend.name
        self.stage = Stage.RENDERING
        self.progress = AttemptProgress(self.ref, on_news)
        self._backend = backend
        self._service = service
        self._settings = settings
        self._run_times = run_times
        self._counted = counted
        self._early = EarlyOutputs(backend, min(MOST_BYTES, settings.max_output_bytes))
        self._report = OutcomeReport(service, self.ref, settings.outcome_hold, self._ended)
        self._on_stage = on_stage
        self._cancel_requested = False
        self._is_lost = False
        self._withdrawal: asyncio.Task[None] | None = None
        self._log = log.bind(job_id=lease.job_id, attempt=lease.attempt, backend=backend.name)

    @property
    def is_lost(self) -> bool:
        """Whether the lease is known to have ended."""
        return self._is_lost

    async def run(self) -> None:
        """Run the job and report its outcome; what goes wrong is reported or logged."""
        # For what the driver logs on the way; the run has a task, and so a context, of its own.
        structlog.contextvars.bind_contextvars(
            job_id=self.lease.job_id, attempt=self.lease.attempt, backend=self.backend_name
        )
        self._log.info("job begins", prompt_id=self.lease.prompt_id)
        try:
            await self._run()
        except LeaseLostError:
            self._log.warning("lease lost, result dropped")
            if not self._report.is_void:
                self._ended("lost")
        except JobServiceError as error:
            self._log.error("outcome not taken, dropped", reason=str(error))
            self._ended("untold")
        finally:
            await self._early.close()
            if self._withdrawal is not None:
                self._withdrawal.cancel()
                await asyncio.wait([self._withdrawal])

    def cancel(self) -> None:
        """Stop the prompt; a job whose files are being stored is completed all the same."""
        self._cancel_requested = True
        self._withdraw()

    def lose(self, is_adopted: Callable[[], bool]) -> None:
        """Report nothing from now on, and stop the prompt unless ``is_adopted`` by then.

        A job whose lease ran out is offered first to whoever drives its ComfyUI, which may
        be this worker: it gets a moment to lease the job again and adopt the prompt.

        While an outcome is being reported, that may be what has ended the lease: the answer tells.
        Once it is told, it is.
        """
        self._is_lost = True
        self._on_stage()
        if self._report.is_under_way or self._report.is_told:
            return
        self._log.warning("lease lost")
        self._report.is_void = True
        self._ended("lost")
        self._withdraw(after=_ADOPTION_SECONDS, unless=is_adopted)

    async def give_back(self, task: asyncio.Task[None]) -> None:
        """Release the job, whose :meth:`run` is ``task``.

        A prompt being rendered stays with ComfyUI, for whoever comes next to adopt it; one
        that waits is taken back.
        """
        is_waiting = self.stage is Stage.RENDERING and not self.progress.has_started
        task.cancel()
        await asyncio.wait([task])
        if self.is_lost:
            return
        if is_waiting:
            try:
                async with asyncio.timeout(_RELEASE_SECONDS):
                    await self._backend.cancel(self.lease.prompt_id)
            except (ComfyError, TimeoutError) as error:
                self._log.warning("prompt left in ComfyUI's queue", reason=str(error))
        try:
            await self._report.released(pb.RELEASE_REASON_DRAINING, seconds=_RELEASE_SECONDS)
        except JobServiceError as error:
            self._log.warning("job not released, its lease will expire", reason=str(error))

    async def _run(self) -> None:
        try:
            with scratch_folder() as folder:
                await self._render_and_settle(folder)
        except UnknownRecipeError as error:
            await self._fail(job_error_pb2.ERROR_CODE_INVALID_WORKFLOW, message=str(error))
        except InputMissingError as error:
            await self._fail(job_error_pb2.ERROR_CODE_INPUT_MISSING, message=str(error))
        except (LeaseLostError, JobServiceError):
            raise
        except Exception:  # noqa: BLE001 - one job's bug must not take the others down
            details = traceback.format_exc()
            self._log.exception("job hit a bug of the worker")
            await self._fail(job_error_pb2.ERROR_CODE_INTERNAL, details=details)

    async def _render_and_settle(self, folder: Path) -> None:
        prior = [prompt.prompt_id for prompt in self.lease.prior_prompts]
        outcome = await self._render(folder, prior)
        try:
            await self._settle(outcome, folder)
        except OutputMissingError as error:
            self._log.warning("what the prompt made is gone, rendering again", reason=str(error))
            try:
                await self._settle(await self._render(folder, (), again=True), folder)
            except OutputMissingError as missing:
                await self._fail(
                    job_error_pb2.ERROR_CODE_OUTPUT_MISSING,
                    message=f"A result is missing: {missing}.",
                    details=str(missing),
                )

    async def _render(self, folder: Path, prior: Sequence[str], *, again: bool = False) -> Outcome:
        """Run the graph, and once more when ComfyUI has lost an input it had been given."""
        self.stage = Stage.RENDERING
        graph = graph_of(self.lease, again=again)
        inputs = GraphInputs(
            self.lease,
            self.ref,
            self._backend.uploads,
            self._service,
            hold=self._settings.outcome_hold,
        )
        try:
            placed = await inputs.place(graph)
            outcome = await self._run_graph(placed, folder, prior, anew=again)
            if isinstance(outcome, Failed) and inputs.forget_refused(outcome.failure, placed):
                self._log.warning("comfyui has lost an input, uploading it again")
                placed = await inputs.place(graph)
                outcome = await self._run_graph(placed, folder, (), anew=True)
        except ComfyUnreachableError as error:
            outcome = Lost(self.lease.prompt_id, LossReason.NOT_SUBMITTED, str(error))
        except ComfyError as error:  # it does not take the input, and may never: no free retry
            outcome = Lost(self.lease.prompt_id, LossReason.UNREACHABLE, str(error))
        self._log.info("prompt ended", outcome=type(outcome).__name__)
        self.stage = Stage.STORING
        self._on_stage()
        return outcome

    async def _run_graph(
        self, graph: Graph, scratch: Path, prior: Sequence[str], *, anew: bool
    ) -> Outcome:
        if self._cancel_requested:
            return Interrupted(self.lease.prompt_id, requested=True)
        kind = kind_of(self.backend_name, graph)
        self.progress.expect(self._run_times.expected(kind))
        outcome = await self._backend.run(
            self.lease.prompt_id,
            graph,
            adopt=prior,
            observers=self._observers(),
            scratch=scratch,
            anew=anew,
        )
        taken = self.progress.running_for
        if isinstance(outcome, Succeeded) and not outcome.adopted and taken is not None:
            self._run_times.note(kind, taken.total_seconds())
            self._counted.rendered(
                self.backend_name, self.lease.job.checkpoint_model, taken.total_seconds()
            )
        return outcome

    def _observers(self) -> Observers:
        of_progress = self.progress.observers(previews=self._settings.previews)
        accepted = of_progress.on_accepted

        def on_accepted(prompt_id: str) -> None:
            self._early.begin()
            if accepted is not None:
                accepted(prompt_id)

        return replace(of_progress, on_accepted=on_accepted, on_made=self._early.fetch)

    async def _settle(self, outcome: Outcome, folder: Path) -> None:
        """Report an outcome; raises OutputMissingError when something it made is gone."""
        if self.is_lost:
            return
        match outcome:
            case Succeeded():
                await self._store(outcome, folder)
            case Failed(failure=failure):
                await self._report.failed(failure_error(failure))
            case Interrupted(requested=requested):
                if requested or self._cancel_requested:
                    await self._report.released(pb.RELEASE_REASON_CANCELLED)
                else:
                    await self._fail(job_error_pb2.ERROR_CODE_INTERRUPTED)
            case Lost(reason=LossReason.NOT_SUBMITTED, message=message):
                self._log.warning("comfyui gone before it had the prompt", reason=message)
                await self._report.released(pb.RELEASE_REASON_BACKEND_GONE)
            case Lost(reason=reason, message=message):
                await self._report.failed(loss_error(reason, message))

    async def _store(self, outcome: Succeeded, folder: Path) -> None:
        self.progress.storing()
        if outcome.gap:
            raise OutputMissingError(outcome.gap)
        upload = ResultUpload(
            self.ref,
            self._backend,
            self._service,
            self._early,
            max_bytes=self._settings.max_output_bytes,
            hold=self._settings.outcome_hold,
        )
        outputs: tuple[Output, ...] = (*outcome.files, *outcome.pictures, *outcome.texts)
        if not outputs:
            await self._fail(
                job_error_pb2.ERROR_CODE_OUTPUT_MISSING,
                message="The run succeeded but put nothing out.",
            )
            return
        try:
            uploaded = await upload.upload(outputs, folder)
        except OutputTooLargeError as error:
            await self._fail(
                job_error_pb2.ERROR_CODE_OUTPUT_MISSING,
                message=f"A result cannot be kept: {error}.",
            )
            return
        except OutputMissingError:
            raise
        except ComfyError as error:
            await self._report.failed(loss_error(LossReason.UNREACHABLE, str(error)))
            return
        await self._report.completed(
            uploaded, prompt_id=outcome.prompt_id, running_for=self.progress.running_for
        )

    def _ended(self, outcome: str, error_code: str = "") -> None:
        self._counted.job_ended(self.backend_name, outcome, error_code)

    async def _fail(
        self, code: job_error_pb2.ErrorCode.ValueType, *, message: str = "", details: str = ""
    ) -> None:
        await self._report.failed(job_error(code, message=message, details=details))

    def _withdraw(self, *, after: float = 0.0, unless: Callable[[], bool] = lambda: False) -> None:
        if self.stage is Stage.RENDERING and (self._withdrawal is None or self._withdrawal.done()):
            self._withdrawal = asyncio.create_task(self._withdraw_prompt(after, unless))

    async def _withdraw_prompt(self, after: float, unless: Callable[[], bool]) -> None:
        await asyncio.sleep(after)
        if self.stage is not Stage.RENDERING or unless():
            return
        try:
            cancellation = await self._backend.cancel(self.lease.prompt_id)
        except ComfyError as error:
            self._log.warning("prompt not stopped", reason=str(error))
            return
        self._log.info("prompt stopped", result=cancellation.name)
        if cancellation is Cancellation.STILL_RUNNING:
            self._log.warning("comfyui goes on with the prompt, its node ignores interrupts")
