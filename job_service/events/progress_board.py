"""How far running jobs are: in memory, written down about once a second."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from generation_jobs.v1 import generation_job_service_pb2, job_pb2
from google.protobuf import json_format

from job_service.events.hub import Hub, JobChanged, JobProgressed
from job_service.store.leases import LeaseKey, LeaseStore, ProgressWrite

#: Seconds between two writes of one job's progress.
WRITE_INTERVAL: Final = 1.0
#: Jobs remembered; the one that was silent longest goes first.
CAPACITY: Final = 10_000


@dataclass(slots=True)
class _Entry:
    lease: LeaseKey
    progress: job_pb2.JobProgress
    preview: generation_job_service_pb2.Preview | None
    prompt_id: str
    started: bool
    written_at: float
    cancel: bool


class ProgressBoard:
    """The latest progress and preview of each job that reports to this replica."""

    def __init__(
        self, hub: Hub, leases: LeaseStore, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._hub = hub
        self._leases = leases
        self._clock = clock
        self._entries: OrderedDict[int, _Entry] = OrderedDict()

    async def report(
        self,
        lease: LeaseKey,
        progress: job_pb2.JobProgress,
        *,
        running_for: timedelta | None,
        prompt_id: str,
        preview: generation_job_service_pb2.Preview | None = None,
    ) -> bool | None:
        """Take a report; whether a cancel was asked for, None: the lease has ended.

        Between two writes the answer is the one of the last write, or what ``note_cancel`` was
        told: a cancel at another replica reaches the worker by its heartbeat. Fills in the attempt.
        """
        entry = self._entries.get(lease.job_id)
        now = self._clock()
        # Something besides progress, for which watchers must read the row again.
        row_moves = (
            entry is None
            or entry.lease != lease
            or (running_for is not None and not entry.started)
            or prompt_id != entry.prompt_id
        )
        if entry is None or row_moves or now - entry.written_at >= WRITE_INTERVAL:
            written = json_format.MessageToDict(progress, preserving_proto_field_name=True)
            held = await self._leases.write_progress(
                ProgressWrite(lease, written, running_for, prompt_id)
            )
            if held is None:
                if entry is not None and entry.lease == lease:
                    self.forget(lease.job_id)
                return None
            started = running_for is not None
            if entry is None or entry.lease != lease:
                progress.attempt = held.attempt
                entry = _Entry(lease, progress, None, prompt_id, started, now, held.cancel)
                self._entries[lease.job_id] = entry
            entry.prompt_id = prompt_id
            entry.started = entry.started or started
            entry.written_at = now
            entry.cancel = held.cancel
            while len(self._entries) > CAPACITY:
                self._entries.popitem(last=False)
        # A fraction that fell would make a bar jump back; a retried report can be late.
        if progress.fraction >= entry.progress.fraction:
            progress.attempt = entry.progress.attempt
            entry.progress = progress
        if preview is not None:
            preview.attempt = entry.progress.attempt
            entry.preview = preview
        self._entries.move_to_end(lease.job_id)
        self._hub.publish(JobProgressed(lease.job_id))
        if row_moves:
            self._hub.publish(JobChanged(lease.job_id))
        return entry.cancel

    def progress(self, job_id: int, attempt: int) -> job_pb2.JobProgress | None:
        """The latest progress of this attempt, if it reports here."""
        entry = self._entries.get(job_id)
        return entry.progress if entry and entry.progress.attempt == attempt else None

    def preview(self, job_id: int, attempt: int) -> generation_job_service_pb2.Preview | None:
        """The latest preview of this attempt, if it reports here."""
        entry = self._entries.get(job_id)
        return entry.preview if entry and entry.progress.attempt == attempt else None

    def note_cancel(self, *job_ids: int) -> None:
        """Note that a cancel was asked for, so that the next report is told."""
        for job_id in job_ids:
            if job_id in self._entries:
                self._entries[job_id].cancel = True

    def forget(self, *job_ids: int) -> None:
        """Drop jobs that no longer run."""
        for job_id in job_ids:
            self._entries.pop(job_id, None)
