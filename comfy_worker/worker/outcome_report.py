"""Bringing the end of one attempt to job_service, however long it cannot be reached."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog
from generation_jobs.v1 import job_error_pb2
from generation_jobs.v1 import worker_service_pb2 as pb

from comfy_worker.worker.job_service_connection import JobServiceConnection
from comfy_worker.worker.result_upload import Uploaded
from comfy_worker.worker.retrying import persistently

log = structlog.get_logger(__name__)


class OutcomeReport:
    """Reports the outcome of one lease, for at most ``hold`` seconds.

    Every method raises LeaseLostError when another outcome was recorded, and
    ServiceUnavailableError when the time is over. ``is_void`` set: nothing is reported.
    ``is_under_way``: an outcome is being sent, and may have been recorded. ``is_told``: it is.
    ``on_told`` hears the outcome, and of failures the code, once job_service has taken it.
    """

    def __init__(
        self,
        service: JobServiceConnection,
        lease: pb.LeaseRef,
        hold: float,
        on_told: Callable[[str, str], None],
    ) -> None:
        self.is_void = False
        self.is_under_way = False
        self.is_told = False
        self._service = service
        self._lease = lease
        self._hold = hold
        self._on_told = on_told
        self._log = log.bind(job_id=lease.job_id)

    async def completed(
        self, uploaded: Uploaded, *, prompt_id: str, running_for: timedelta | None
    ) -> None:
        """Report success, with what is still to be uploaded."""
        request = pb.CompleteJobRequest(
            worker=self._service.worker,
            lease=self._lease,
            artifact_ids=uploaded.artifact_ids,
            prompt_id=prompt_id,
        )
        if running_for is not None:
            request.running_for.FromTimedelta(running_for)
        await self._send(
            lambda: self._service.complete_job(request, uploaded.remaining),
            self._hold,
            "completed",
        )
        self._log.info(
            "job completed", artifacts=len(uploaded.artifact_ids) + len(uploaded.remaining)
        )

    async def failed(self, error: job_error_pb2.JobError) -> None:
        """Report a failure; the service decides whether the job runs again."""
        name = job_error_pb2.ErrorCode.Name(error.code)
        self._log.warning("job failed", code=name)
        self._log.debug("what it failed of", message=error.message)  # may quote the prompt
        request = pb.FailJobRequest(worker=self._service.worker, lease=self._lease, error=error)
        await self._send(lambda: self._service.fail_job(request), self._hold, "failed", name)

    async def released(
        self, reason: pb.ReleaseReason.ValueType, *, seconds: float | None = None
    ) -> None:
        """Give the job back; ``seconds`` instead of the hold."""
        self._log.info("job given back", reason=pb.ReleaseReason.Name(reason))
        await self._send(
            lambda: self._service.release_job(self._lease, reason),
            seconds or self._hold,
            "released",
        )

    async def _send(
        self, call: Callable[[], Awaitable[None]], seconds: float, outcome: str, code: str = ""
    ) -> None:
        if self.is_void:
            return
        self.is_under_way = True
        try:
            await persistently(call, self._service.contact, seconds=seconds)
        finally:
            self.is_under_way = False
        self.is_told = True
        self._on_told(outcome, code)
