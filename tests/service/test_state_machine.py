"""Any sequence of what clients, workers and operators call leaves what the reference model says."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar

import grpc
import pytest
from generation_jobs.v1 import attempt_pb2, job_error_pb2, job_pb2
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import worker_service_pb2 as workers
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from job_service import server
from job_service.jobs.states import STATUS_FROM_WIRE
from job_service.settings import Settings
from tests.jobs_protocol import ProtocolClient, refusal
from tests.operator_protocol import ProtocolOperator
from tests.service.reference_model import ModelJob, RefusedByModelError
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker, seconds, verdicts

# Leases last as long as a test likes: one whose time is set into the past is overdue at once.
PATIENCE = """
CREATE FUNCTION patient() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.lease_expires_at > now() THEN NEW.lease_expires_at := now() + interval '1 hour'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER patient BEFORE UPDATE ON generation_jobs
    FOR EACH ROW EXECUTE FUNCTION patient();
"""
#: Error codes with what the service does after them: retry, forgive.
FAILURES = {
    job_error_pb2.ERROR_CODE_INTERNAL: (True, False),
    job_error_pb2.ERROR_CODE_COMFYUI_RESTARTED: (True, True),
    job_error_pb2.ERROR_CODE_INVALID_WORKFLOW: (False, False),
}
RELEASES = (
    workers.RELEASE_REASON_DRAINING,
    workers.RELEASE_REASON_CANCELLED,
    workers.RELEASE_REASON_BACKEND_GONE,
)
MAX_ATTEMPTS = st.integers(1, 3)


@dataclass
class Running:
    """A service, and how tests that are not coroutines speak to it."""

    runner: asyncio.Runner
    client: ProtocolClient
    worker: ProtocolWorker
    operator: ProtocolOperator
    sql: Sql

    def run(self, call: Awaitable[Any]) -> Any:
        """The answer, or the reason of the refusal."""

        async def answered() -> Any:
            try:
                return await call
            except grpc.aio.AioRpcError as error:
                return refusal(error).reason

        return self.runner.run(answered())


@pytest.fixture
def running(service_settings: Settings, database_url: str) -> Iterator[Running]:
    short = service_settings.model_copy(update={"lease_ttl": timedelta(seconds=1)})
    with asyncio.Runner() as runner:
        service = server.running(short)
        channel = grpc.aio.insecure_channel(runner.run(service.__aenter__()))
        worker = ProtocolWorker(channel, slots=64)
        sql = runner.run(_connect(database_url))
        runner.run(sql.execute(PATIENCE))
        runner.run(worker.report_catalogue())
        try:
            yield Running(runner, ProtocolClient(channel), worker, ProtocolOperator(channel), sql)
        finally:
            runner.run(sql.close())
            runner.run(channel.close())
            runner.run(service.__aexit__(None, None, None))


async def _connect(database_url: str) -> Sql:
    plain = database_url.replace("+psycopg", "")
    return await Sql.connect(plain, autocommit=True)


@dataclass
class Job:
    """A job, in the service and in the model. ``seen``: the highest attempt so far."""

    id: int
    model: ModelJob
    leases: dict[int, workers.Lease] = field(default_factory=dict)
    seen: int = 0


class Calls(RuleBasedStateMachine):
    """Sequences of calls on one running service; each begins with an empty table."""

    service: ClassVar[Running]
    jobs = Bundle("jobs")
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.service.run(self.service.sql.execute("DELETE FROM generation_jobs"))
        self.known: dict[int, Job] = {}

    @rule(target=jobs, max_attempts=MAX_ATTEMPTS)
    def create(self, max_attempts: int) -> Job:
        stored = self.service.run(self.service.client.create(max_attempts=max_attempts))
        return self.known.setdefault(stored.id, Job(stored.id, ModelJob(max_attempts)))

    @rule(job=jobs)
    def cancel(self, job: Job) -> None:
        self._both(self.service.client.cancel(job.id, "reason"), job.model.cancel)

    @rule(job=jobs)
    def retry(self, job: Job) -> None:
        request = pb.RetryJobRequest(id=job.id)
        self._both(self.service.client.stub.RetryJob(request, timeout=20), job.model.retry)

    @rule(job=jobs, max_attempts=MAX_ATTEMPTS)
    def update(self, job: Job, max_attempts: int) -> None:
        request = pb.UpdateJobRequest(
            job=job_pb2.GenerationJob(id=job.id, max_attempts=max_attempts)
        )
        request.update_mask.paths.append("max_attempts")
        self._both(
            self.service.client.stub.UpdateJob(request, timeout=20),
            lambda: job.model.update(max_attempts),
        )

    @rule(job=jobs, cancel=st.booleans())
    def delete(self, job: Job, cancel: bool) -> None:
        self._both(
            self.service.client.delete(job.id, cancel=cancel),
            lambda: job.model.delete(cancel=cancel),
        )

    @rule(job=jobs)
    def fail_now(self, job: Job) -> None:
        self._both(self.service.operator.fail_now(job.id), job.model.fail_now)

    @precondition(lambda self: self.known)
    @rule(target=leases)
    def lease(self) -> tuple[Job, int]:
        waiting = {
            job.id
            for job in self.known.values()
            if job.model.status == "pending" and not job.model.resting
        }
        leases = self.service.run(self.service.worker.lease(wait=0))
        if not waiting:
            assert leases == []
            return next(iter(self.known.values())), 0
        (lease,) = leases
        assert lease.job_id in waiting
        job = self.known[lease.job_id]
        job.model.lease()
        job.leases[lease.attempt] = lease
        assert lease.attempt == job.model.attempt
        return job, lease.attempt

    @rule(held=leases)
    def report(self, held: tuple[Job, int]) -> None:
        self._with_lease(held, self._report)

    @rule(held=leases)
    def complete(self, held: tuple[Job, int]) -> None:
        self._with_lease(held, self._complete)

    @rule(held=leases, code=st.sampled_from(list(FAILURES)))
    def fail(self, held: tuple[Job, int], code: Any) -> None:
        retry, forgivable = FAILURES[code]
        self._with_lease(
            held,
            lambda job, lease: self._both(
                self.service.worker.fail(lease, code, retry_after=0),
                lambda: job.model.end(lease.attempt, "fail", retry=retry, forgivable=forgivable),
            ),
        )

    @rule(held=leases, reason=st.sampled_from(RELEASES))
    def release(self, held: tuple[Job, int], reason: Any) -> None:
        gone = reason == workers.RELEASE_REASON_BACKEND_GONE
        self._with_lease(
            held,
            lambda job, lease: self._both(
                self.service.worker.release(lease, reason),
                lambda: job.model.end(lease.attempt, "release", charge=False, rest=gone),
            ),
        )

    @rule()
    def beat(self) -> None:
        """With every lease there ever was."""
        every = [(job, lease) for job in self.known.values() for lease in job.leases.values()]
        answer = self.service.run(self.service.worker.beat(*(lease for _, lease in every)))
        assert verdicts(answer) == {
            lease.lease_token: self._verdict(job, lease) for job, lease in every
        }

    @rule(job=jobs)
    def pause_is_over(self, job: Job) -> None:
        if job.model.resting and job.model.status == "pending":
            job.model.resting = False
            self._write("not_before = NULL, dispatchable = true", job)

    @rule(job=jobs)
    def lease_runs_out(self, job: Job) -> None:
        """Its worker has gone silent; the service takes the job from it."""
        if job.model.status == "running":
            job.model.end(job.model.attempt, "rescue")
            self._write("lease_expires_at = now() - interval '1 s'", job)
            self.service.run(self._upkeep_has_been(job))

    @invariant()
    def everything_is_as_in_the_model(self) -> None:
        self.service.run(self._gone())
        page = self.service.run(
            self.service.client.list_jobs(page_size=1000, view=job_pb2.JOB_VIEW_FULL)
        )
        found = {job.id: job for job in page.jobs}
        there = {job.id for job in self.known.values() if job.model.status != "gone"}
        assert set(found) == there
        for job_id in there:
            self._is_as_in_the_model(found[job_id], self.known[job_id])

    def _is_as_in_the_model(self, found: job_pb2.GenerationJob, job: Job) -> None:
        model = job.model
        said = (
            STATUS_FROM_WIRE[found.status],
            found.attempt,
            found.attempts_charged,
            found.max_attempts,
            found.HasField("cancel_requested_at"),
        )
        assert said == (
            model.status,
            model.attempt,
            model.charged,
            model.max_attempts,
            model.cancelling,
        )
        ended = model.status in ("completed", "failed", "cancelled")
        assert found.HasField("completed_at") == ended
        assert found.HasField("error") or model.status != "failed"
        assert not found.HasField("error") or model.status != "completed"
        assert found.attempt >= job.seen, "attempts are never numbered again"
        job.seen = found.attempt
        assert found.attempts_charged <= found.max_attempts
        assert [one.attempt for one in found.attempts] == list(range(1, found.attempt + 1))
        outcomes = [one.outcome for one in found.attempts]
        unended = attempt_pb2.ATTEMPT_OUTCOME_UNSPECIFIED
        assert unended not in outcomes[:-1], "one attempt at a time"
        assert (outcomes[-1:] == [unended]) == (model.status == "running")
        completed = outcomes.count(attempt_pb2.ATTEMPT_OUTCOME_COMPLETED)
        assert completed == (model.status == "completed"), "one outcome, and it stays"

    def _both(self, call: Awaitable[Any], model: Callable[[], Any]) -> None:
        """The service answers as the model does."""
        try:
            expected = model()
        except RefusedByModelError as error:
            (expected,) = error.args
        answer = self.service.run(call)
        if isinstance(expected, str) and isinstance(answer, int):
            answer = STATUS_FROM_WIRE[job_pb2.JobStatus.ValueType(answer)]
        elif expected is None:
            assert not isinstance(answer, str), answer
            return
        assert answer == expected

    def _with_lease(self, held: tuple[Job, int], say: Any) -> None:
        job, attempt = held
        if attempt:
            say(job, job.leases[attempt])

    def _report(self, job: Job, lease: workers.Lease) -> None:
        answer = self.service.run(self.service.worker.progress(lease, 0.5, running_for=seconds(1)))
        assert answer == self._verdict(job, lease)

    def _complete(self, job: Job, lease: workers.Lease) -> None:
        self._both(
            self.service.worker.complete(lease), lambda: job.model.end(lease.attempt, "complete")
        )

    def _verdict(self, job: Job, lease: workers.Lease) -> Any:
        if not job.model.holds(lease.attempt):
            return workers.VERDICT_LOST
        return workers.VERDICT_CANCEL if job.model.cancelling else workers.VERDICT_CONTINUE

    def _write(self, change: str, job: Job) -> None:
        statement = f"UPDATE generation_jobs SET {change} WHERE id = %s"
        self.service.run(self.service.sql.execute(statement.encode(), [job.id]))

    async def _upkeep_has_been(self, job: Job) -> None:
        async with asyncio.timeout(30):
            while (await self._status(job)) == "running" and job.model.status != "running":
                await self.service.client.list_jobs(page_size=1)

    async def _gone(self) -> None:
        """Jobs that go once they have ended are removed by the service's own time."""
        async with asyncio.timeout(30):
            for job in self.known.values():
                while job.model.status == "gone" and await self._status(job) is not None:
                    await self.service.client.list_jobs(page_size=1)

    async def _status(self, job: Job) -> str | None:
        cursor = await self.service.sql.execute(
            "SELECT status FROM generation_jobs WHERE id = %s", [job.id]
        )
        row = await cursor.fetchone()
        return None if row is None else str(row[0])


def check(service: Running, *, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        type("CallsOnThis", (Calls,), {"service": service}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.reuse, Phase.generate, Phase.shrink],
        ),
    )


def test_any_sequence_of_calls_leaves_what_the_model_says(running: Running) -> None:
    check(running, examples=12, steps=40)


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_many_more_sequences_of_calls_leave_what_the_model_says(running: Running) -> None:
    check(running, examples=200, steps=60)
