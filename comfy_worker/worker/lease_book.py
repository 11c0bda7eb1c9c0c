"""The leases this worker holds, and the room it has for more."""

import asyncio
from collections.abc import Sequence
from typing import Final

from generation_jobs.v1 import worker_service_pb2 as pb

from comfy_worker.worker.job_run import JobRun, Stage

_STORING_PER_SLOT: Final = 2


class LeaseBook:
    """Runs by lease token.

    A ComfyUI's slot is taken while its prompt renders, not while files are stored, so that
    it goes on with the next job; when twice as many jobs are storing as there are slots, no
    more are taken. ``room`` is set when the room may have grown, ``news`` when a run has
    progress to report, ``empty`` while there is no lease.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.room = asyncio.Event()
        self.news = asyncio.Event()
        self.empty = asyncio.Event()
        self.empty.set()
        self._runs: dict[str, tuple[JobRun, asyncio.Task[None]]] = {}

    def add(self, run: JobRun, task: asyncio.Task[None]) -> None:
        """Keep a run until its task is done."""
        self._runs[run.ref.lease_token] = (run, task)
        self.empty.clear()
        task.add_done_callback(lambda _: self._remove(run))

    def changed(self) -> None:
        """Note that a run has left its ComfyUI, lost its lease, or ended."""
        self.room.set()
        if not self.runs():
            self.empty.set()

    def find(self, lease_token: str) -> JobRun | None:
        """Return the run of a lease, None when there is none or it is lost."""
        run, _ = self._runs.get(lease_token, (None, None))
        return None if run is None or run.is_lost else run

    def runs(self) -> Sequence[JobRun]:
        """Every run whose lease is not known to be lost."""
        return [run for run, _ in self._runs.values() if not run.is_lost]

    def tasks(self) -> Sequence[tuple[JobRun, asyncio.Task[None]]]:
        """Every run and its task."""
        return list(self._runs.values())

    def refs(self) -> list[pb.LeaseRef]:
        """Every lease to be renewed."""
        return [run.ref for run in self.runs()]

    def holds_newer_attempt(self, run: JobRun) -> bool:
        """Whether a later attempt of the same job runs here, on the same ComfyUI."""
        return any(
            other.lease.job_id == run.lease.job_id
            and other.lease.attempt > run.lease.attempt
            and other.backend_name == run.backend_name
            for other in self.runs()
        )

    def count(self, backend_name: str, stage: Stage) -> int:
        """How many jobs a ComfyUI has in this stage."""
        return sum(run.backend_name == backend_name and run.stage is stage for run in self.runs())

    def free_slots(self, backend_name: str) -> int:
        """How many prompts a ComfyUI can take now."""
        of_backend = [run for run in self.runs() if run.backend_name == backend_name]
        rendering = sum(run.stage is Stage.RENDERING for run in of_backend)
        if len(of_backend) - rendering >= _STORING_PER_SLOT * self.depth:
            return 0
        return max(self.depth - rendering, 0)

    def _remove(self, run: JobRun) -> None:
        del self._runs[run.ref.lease_token]
        self.changed()
