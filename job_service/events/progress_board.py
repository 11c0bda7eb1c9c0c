"""How far running jobs are: in memory, written down about once a second."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from generation_jobs.v1 import generation_job_service_pb2, job_pb2
from google.protobuf import json_format

from job_service.events.hub import (
    CancelRequested,
    Hub,
    JobChanged,
    JobPreviewed,
    JobProgressed,
)
from job_service.store.lease_key import LeaseKey
from job_service.store.leases import LeaseStore, ProgressWrite

#: Seconds between two writes of one job's progress.
WRITE_INTERVAL: Final = 1.0
#: Jobs remembered, and previews of up to 256 KiB; the one that was silent longest goes first.
CAPACITY: Final = 10_000
MOST_PREVIEWS: Final = 500


@dataclass(slots=True)
class _Entry:
    """What is known of one attempt.

    ``lease``: None while it has only reported elsewhere, and when it has ended.
    """

    attempt: int
    lease: LeaseKey | None = None
    progress: job_pb2.JobProgress | None = None
    prompt_id: str = ""
    started: bool = False
    written_at: float = float("-inf")
    cancel: bool = False

    def take(self, progress: job_pb2.JobProgress) -> None:
        """Take progress, unless it is older than what is known."""
        # A fraction that fell would make a bar jump back; a retried report can be late.
        if self.progress is None or progress.fraction >= self.progress.fraction:
            self.progress = progress


class ProgressBoard:
    """The latest progress and preview of each job that reports here, or is watched here."""

    def __init__(
        self, hub: Hub, leases: LeaseStore, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._hub = hub
        self._leases = leases
        self._clock = clock
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._previews: OrderedDict[int, generation_job_service_pb2.Preview] = OrderedDict()

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
        told here or elsewhere. Fills in the attempt.
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
            entry = self._entries.get(lease.job_id)  # others may have reported meanwhile
            if entry is None or entry.attempt != held.attempt:
                entry = self._entries[lease.job_id] = _Entry(held.attempt)
            entry.lease = lease
            entry.prompt_id = prompt_id
            entry.started = entry.started or running_for is not None
            entry.written_at = now
            entry.cancel = entry.cancel or held.cancel
        progress.attempt = entry.attempt
        entry.take(progress)
        if preview is not None:
            preview.attempt = entry.attempt
            self._show(preview)
            self._hub.publish(JobPreviewed(lease.job_id))
        self._keep(lease.job_id)
        self._hub.publish(JobProgressed(lease.job_id))
        if row_moves:
            self._hub.publish(JobChanged(lease.job_id))
        return entry.cancel

    def forwarded(self, job_id: int, progress: job_pb2.JobProgress) -> None:
        """Take progress that was reported to another replica."""
        entry = self._entry_of(job_id, progress.attempt)
        if entry is not None:
            entry.take(progress)
            self._hub.wake(JobProgressed(job_id))

    def forwarded_preview(self, preview: generation_job_service_pb2.Preview) -> None:
        """Take a preview that was reported to another replica."""
        before = self._previews.get(preview.job_id)
        if before is None or before.attempt <= preview.attempt:
            self._show(preview)
            self._hub.wake(JobPreviewed(preview.job_id))

    def _entry_of(self, job_id: int, attempt: int) -> _Entry | None:
        """The entry of an attempt; None when a later one has reported."""
        entry = self._entries.get(job_id)
        if entry is None or entry.attempt < attempt:
            entry = self._entries[job_id] = _Entry(attempt)
        self._keep(job_id)
        return entry if entry.attempt == attempt else None

    def _show(self, preview: generation_job_service_pb2.Preview) -> None:
        self._previews[preview.job_id] = preview
        self._previews.move_to_end(preview.job_id)
        if len(self._previews) > MOST_PREVIEWS:
            self._previews.popitem(last=False)

    def _keep(self, job_id: int) -> None:
        self._entries.move_to_end(job_id)
        while len(self._entries) > CAPACITY:
            self._entries.popitem(last=False)

    def reporting(self, only: int | None = None) -> list[int]:
        """Ids of the jobs that report to this replica, at most this one if one is given."""
        entries = self._entries
        job_ids = entries if only is None else [only] if only in entries else []
        return [job_id for job_id in job_ids if entries[job_id].lease is not None]

    def latest(self, job_id: int) -> job_pb2.JobProgress | None:
        """The latest progress of a job, whichever its attempt."""
        entry = self._entries.get(job_id)
        return entry.progress if entry else None

    def latest_preview(self, job_id: int) -> generation_job_service_pb2.Preview | None:
        """The latest preview of a job, whichever its attempt."""
        return self._previews.get(job_id)

    def progress(self, job_id: int, attempt: int) -> job_pb2.JobProgress | None:
        """The latest progress of this attempt, if this replica has heard of it."""
        entry = self._entries.get(job_id)
        return entry.progress if entry and entry.attempt == attempt else None

    def preview(self, job_id: int, attempt: int) -> generation_job_service_pb2.Preview | None:
        """The latest preview of this attempt, if this replica has heard of it."""
        preview = self._previews.get(job_id)
        return preview if preview and preview.attempt == attempt else None

    def note_cancel(self, *job_ids: int) -> None:
        """Note that a cancel was asked for, so that the next report is told, at any replica."""
        requests = [CancelRequested(job_id) for job_id in job_ids]
        for request in requests:
            self.heard(request)
        self._hub.publish(*requests)

    def heard(self, topic: Hashable) -> None:
        """Note a cancel that was asked for at another replica."""
        if isinstance(topic, CancelRequested) and topic.job_id in self._entries:
            self._entries[topic.job_id].cancel = True

    def forget(self, *job_ids: int) -> None:
        """Note that jobs no longer run: who reports on them is looked up again.

        Their progress stays for watches that have not seen yet that they have ended.
        """
        for job_id in job_ids:
            self._previews.pop(job_id, None)
            if job_id in self._entries:
                self._entries[job_id].lease = None
