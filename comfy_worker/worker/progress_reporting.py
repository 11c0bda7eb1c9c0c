"""Reporting progress: of all jobs together, newest state only, a few times a second."""

import asyncio
from typing import Final

import structlog
from generation_jobs.v1 import worker_service_pb2 as pb

from comfy_worker.worker.directives import Directives
from comfy_worker.worker.job_run import JobRun
from comfy_worker.worker.job_service_connection import JobServiceConnection
from comfy_worker.worker.lease_book import LeaseBook
from comfy_worker.worker.retrying import endlessly
from comfy_worker.worker.service_errors import CallRefusedError, JobServiceError

_BEFORE_REPORT: Final = 0.1
_AFTER_REPORT: Final = 0.1
"""Seconds. What comes before a report goes with it; a job that is over sooner costs none."""
_MOST_REPORT_BYTES: Final = 3 * 1024 * 1024

log = structlog.get_logger(__name__)


class ProgressReporter:
    """Sends what the runs have not told yet; a report that gets lost is made up for."""

    def __init__(
        self, service: JobServiceConnection, book: LeaseBook, directives: Directives
    ) -> None:
        self._service = service
        self._book = book
        self._directives = directives

    async def report(self) -> None:
        """Report for ever."""
        while True:
            await self._book.news.wait()
            await asyncio.sleep(_BEFORE_REPORT)
            self._book.news.clear()
            await endlessly(self._report_once, self._service.contact)
            await asyncio.sleep(_AFTER_REPORT)

    async def _report_once(self) -> None:
        runs: list[JobRun] = []
        reports: list[pb.ProgressReport] = []
        size = 0
        for run in self._book.runs():
            report = run.progress.take_report()
            if report is None:
                continue
            size += report.ByteSize()
            if reports and size > _MOST_REPORT_BYTES:
                run.progress.report_again()
                self._book.news.set()
                break
            runs.append(run)
            reports.append(report)
        if not reports:
            return
        try:
            answer = await self._service.report_progress(reports)
        except CallRefusedError as error:
            log.warning("progress refused, dropped", reason=str(error))
            return
        except JobServiceError:
            for run in runs:
                run.progress.report_again()
            raise
        self._directives.apply(answer.verdicts)
