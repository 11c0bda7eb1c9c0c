"""The worker as a whole: what runs side by side, and how it comes to an end."""

import asyncio
from collections.abc import Sequence

import structlog
from generation_jobs.v1 import worker_service_pb2 as pb

from comfy_worker.comfyui import ComfyBackend
from comfy_worker.monitoring.counted import Counted
from comfy_worker.monitoring.state import BackendState, WorkerState
from comfy_worker.worker.backend_pool import BackendPool
from comfy_worker.worker.directives import Directives
from comfy_worker.worker.heartbeat import Heart
from comfy_worker.worker.job_run import JobRun, RunSettings, Stage
from comfy_worker.worker.job_service_connection import JobServiceConnection
from comfy_worker.worker.lease_book import LeaseBook
from comfy_worker.worker.leasing import Leaser
from comfy_worker.worker.progress_reporting import ProgressReporter
from comfy_worker.worker.retrying import persistently
from comfy_worker.worker.run_times import RunTimes
from comfy_worker.worker.service_errors import JobServiceError

_RELEASE_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Worker:
    """Leases jobs, runs them on ``backends`` and reports, until it is told to stop.

    Connection and ComfyUIs have to be open while :meth:`work` runs. ``depth`` is how many
    prompts a ComfyUI has at once, ``grace`` and ``catalogue_interval`` are in seconds.
    """

    def __init__(
        self,
        service: JobServiceConnection,
        backends: Sequence[ComfyBackend],
        *,
        depth: int,
        labels: Sequence[str],
        grace: float,
        catalogue_interval: float,
        run_settings: RunSettings,
        counted: Counted,
    ) -> None:
        self._service = service
        self._grace = grace
        self._run_settings = run_settings
        self._counted = counted
        self._run_times = RunTimes()
        self._book = book = LeaseBook(depth)
        self._pool = BackendPool(
            backends, service, interval=catalogue_interval, on_change=book.room.set
        )
        directives = Directives(book, on_resume=book.room.set, on_refresh=self._pool.refresh)
        self._heart = Heart(service, book, directives)
        self._reporter = ProgressReporter(service, book, directives)
        self._leaser = Leaser(service, book, self._pool, directives, labels, self._start)
        self._stopping = False
        self._jobs: asyncio.TaskGroup

    def state(self) -> WorkerState:
        """How it stands now."""
        return WorkerState(
            silence=self._service.contact.silence,
            answered_at=self._service.contact.answered_at,
            draining=self._stopping,
            backends=[
                BackendState(
                    name=name,
                    available=available,
                    offered=offered,
                    slots=self._book.depth,
                    rendering=self._book.count(name, Stage.RENDERING),
                    storing=self._book.count(name, Stage.STORING),
                )
                for name, available, offered in self._pool.health()
            ],
        )

    async def work(self, stop: asyncio.Event, hurry: asyncio.Event) -> None:
        """Work until ``stop`` is set, then finish the jobs or give them back.

        ``hurry`` ends the grace period early. Raises an exception group with a
        SupersededError or CannotRunError when the worker has to end by itself; the prompts
        are left to ComfyUI then.
        """
        async with asyncio.TaskGroup() as self._jobs:
            leasing = self._jobs.create_task(self._leaser.lease(), name="leasing")
            loops = [
                self._jobs.create_task(self._heart.beat(), name="heartbeat"),
                self._jobs.create_task(self._pool.keep_informed(), name="catalogues"),
                self._jobs.create_task(self._reporter.report(), name="progress"),
            ]
            await stop.wait()
            self._stopping = True
            leasing.cancel()
            await asyncio.wait([leasing])
            self._heart.drain()
            await self._leaser.collect()
            await self._finish(hurry)
            for loop in loops:
                loop.cancel()

    async def _finish(self, hurry: asyncio.Event) -> None:
        """Let the jobs end within the grace period, then give the others back."""
        log.info("draining", jobs=len(self._book.refs()), grace=self._grace)
        empty = asyncio.create_task(self._book.empty.wait())
        hurried = asyncio.create_task(hurry.wait())
        await asyncio.wait(
            [empty, hurried], timeout=self._grace, return_when=asyncio.FIRST_COMPLETED
        )
        empty.cancel()
        hurried.cancel()
        await asyncio.gather(*(run.give_back(task) for run, task in self._book.tasks()))

    def _start(self, lease: pb.Lease) -> None:
        backend = self._pool.find(lease.backend)
        if backend is None or self._stopping:
            reason = (
                pb.RELEASE_REASON_DRAINING if self._stopping else pb.RELEASE_REASON_BACKEND_GONE
            )
            self._jobs.create_task(self._decline(lease, reason))
            return
        run = JobRun(
            lease,
            backend,
            self._service,
            self._run_settings,
            self._run_times,
            self._counted,
            on_stage=self._book.changed,
            on_news=self._book.news.set,
        )
        task = self._jobs.create_task(run.run(), name=f"job {lease.job_id}")
        self._book.add(run, task)

    async def _decline(self, lease: pb.Lease, reason: pb.ReleaseReason.ValueType) -> None:
        log.warning("lease declined", job_id=lease.job_id, backend=lease.backend)
        ref = pb.LeaseRef(job_id=lease.job_id, lease_token=lease.lease_token)
        try:
            await persistently(
                lambda: self._service.release_job(ref, reason),
                self._service.contact,
                seconds=_RELEASE_SECONDS,
            )
        except JobServiceError as error:
            log.warning("lease not released", job_id=lease.job_id, reason=str(error))
