"""What workers are told of their leases, and what they report of them, as messages."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from generation_jobs.v1 import generation_job_service_pb2, job_pb2
from generation_jobs.v1 import worker_service_pb2 as pb

from job_service.api.encode import duration, input_message
from job_service.api.leased_job import leased_job_message
from job_service.jobs.prompt_id import prompt_id
from job_service.jobs.refusals import Refusal, RefusedError
from job_service.queue.claim_round import Granted
from job_service.queue.heartbeats import Verdicts
from job_service.store.inputs import InputRow
from job_service.store.lease_key import LeaseKey

#: What is said of a lease that was reported on: None: it has ended; whether it is to be cancelled.
REPORT_VERDICTS: Final[Mapping[bool | None, "pb.Verdict.ValueType"]] = {
    None: pb.VERDICT_LOST,
    True: pb.VERDICT_CANCEL,
    False: pb.VERDICT_CONTINUE,
}


def lease_message(
    granted: Granted, installation: UUID, ttl: timedelta, assets: Mapping[int, InputRow]
) -> pb.Lease:
    """A lease as its worker sees it. ``assets``: the inputs that jobs name, by id."""
    job = granted.claim.job
    return pb.Lease(
        job_id=job.id,
        lease_token=str(granted.claim.lease.token),
        attempt=job.attempt,
        ttl=duration(ttl),
        job=leased_job_message(job),
        workflow_json=job.workflow or "",
        backend=granted.backend,
        prompt_id=prompt_id(installation, job.id, job.attempt),
        prior_prompts=[
            pb.PriorPrompt(attempt=attempt, prompt_id=prompt_id(installation, job.id, attempt))
            for attempt in granted.claim.prior_attempts
        ],
        inputs=[
            pb.LeasedInput(name=binding["name"], input=input_message(assets[binding["input_id"]]))
            for binding in job.inputs
            if binding["input_id"] in assets
        ],
    )


def verdict_messages(verdicts: Verdicts) -> Sequence[pb.LeaseVerdict]:
    """What a worker shall do about each of its leases."""
    return [
        pb.LeaseVerdict(
            lease=pb.LeaseRef(job_id=lease.job_id, lease_token=str(lease.token)), verdict=verdict
        )
        for lease, verdict in verdicts.items()
    ]


def reported_progress(report: pb.ProgressReport) -> job_pb2.JobProgress:
    """How far a job is, as clients see it."""
    return job_pb2.JobProgress(
        fraction=report.fraction,
        phase=report.phase,
        node_id=report.node_id,
        node_class=report.node_class,
        step=report.step,
        steps=report.steps,
        remaining=report.remaining if report.HasField("remaining") else None,
    )


def reported_preview(
    lease: LeaseKey, report: pb.ProgressReport
) -> generation_job_service_pb2.Preview | None:
    """The preview that came with a report."""
    if not report.HasField("preview"):
        return None
    return generation_job_service_pb2.Preview(
        job_id=lease.job_id,
        content_type=report.preview.content_type,
        data=report.preview.data,
    )


def lease_lost(lease: LeaseKey) -> RefusedError:
    """What is answered to a report under a lease that has ended."""
    return RefusedError(
        Refusal.LEASE_LOST,
        f"the lease on job {lease.job_id} has ended; nothing was changed",
        metadata={"job_id": str(lease.job_id), "lease_token": str(lease.token)},
    )
