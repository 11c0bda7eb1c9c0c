"""Statements that store new jobs."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from operator import attrgetter
from typing import Any, Final, TypeAlias
from uuid import UUID

from job_service.jobs.new_job import NewJob
from job_service.jobs.refusals import Refusal, RefusedError
from job_service.store.admission import UserCaps
from job_service.store.database import COMMITTED_SOON, Database, Row, as_json, statement
from job_service.store.fair_share import tagging
from job_service.store.joined import Joined
from job_service.store.route_keys import RouteKeys
from job_service.store.tables import JOB_COLUMNS, JOB_COLUMNS_SQL, JobRow
from job_service.store.tally import UNCOUNTED, Tally

# One column for the condition: for several the planner expects a single row and joins by loops.
_TAGGING_FRESH: Final = tagging("SELECT id, user_id, priority FROM fresh WHERE dispatchable")

# What of a new row its creator does not know. The documents come back as the table keeps them:
# answers to CreateJob and GetJob have their keys in the same order.
_DECIDED: Final = (
    "id",
    "params",
    "template_arguments",
    "created_at",
    "updated_at",
    "not_before",
    "dispatchable",
)
_DECIDED_SQL: Final = ", ".join(f"job.{name}" for name in _DECIDED)


# One statement stores any number of jobs. A request_id that is taken inserts nothing: its row is
# read by a second statement, because one statement cannot see a concurrent winner.
#
# `fresh` draws the ids before the insert, so that answers find their requests again. Jobs that are
# due get their fair share tags, `tagged`: see `job_service.store.fair_share`. Rows are inserted in
# the order of their request ids, so that statements with the same ones do not deadlock.
def _creating(besides: str = "") -> bytes:
    return statement(f"""
WITH new AS MATERIALIZED (
    SELECT r.*, CASE WHEN r.scheduled_at > now() THEN r.scheduled_at END AS not_before,
        coalesce(r.scheduled_at <= now(), true)
            AND coalesce(share.max_running, CAST(:max_running AS integer)) IS NULL AS dispatchable,
        coalesce(share.max_pending, CAST(:max_pending AS integer)) AS max_pending
    FROM {besides}jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (
        n integer, user_id uuid, job_type text, prompt text, negative_prompt text,
        checkpoint_model text, lora_models jsonb, width integer, height integer,
        batch_size integer, seed bigint, params jsonb, workflow text, template_name text,
        template_version integer, template_arguments jsonb, inputs jsonb, labels jsonb,
        backend_label text, content_id bigint, priority smallint, scheduled_at timestamptz,
        expires_at timestamptz, max_attempts smallint, attempt_timeout interval, request_id text,
        request_hash text, route_key integer
    )
    LEFT JOIN user_shares AS share USING (user_id)
    -- Not NOT EXISTS: beside OR that is planned as a hash of the whole table.
    WHERE (
        SELECT true FROM generation_jobs AS earlier
        WHERE earlier.user_id = r.user_id AND earlier.request_id = r.request_id
    ) IS NOT TRUE
), pending AS MATERIALIZED (
    -- counted no further than the limit
    SELECT limited.user_id, (
        SELECT count(*) FROM (
            SELECT FROM generation_jobs AS job
            WHERE job.user_id = limited.user_id AND job.status = 'pending'
            LIMIT limited.max_pending
        ) AS counted
    ) AS waiting
    FROM (SELECT DISTINCT user_id, max_pending FROM new WHERE max_pending IS NOT NULL) AS limited
), admitted AS MATERIALIZED (
    SELECT new.*, new.max_pending IS NULL OR coalesce(pending.waiting, 0)
        + row_number() OVER (PARTITION BY new.user_id ORDER BY n) <= new.max_pending AS admitted
    FROM new LEFT JOIN pending USING (user_id)
), fresh AS MATERIALIZED (
    SELECT nextval(pg_get_serial_sequence('generation_jobs', 'id')) AS id, admitted.*
    FROM admitted WHERE admitted ORDER BY n
), {_TAGGING_FRESH}, job AS (
    INSERT INTO generation_jobs (
        id, user_id, job_type, prompt, negative_prompt, checkpoint_model, lora_models, width,
        height, batch_size, seed, params, workflow, template_name, template_version,
        template_arguments, inputs, labels, backend_label, content_id, priority, scheduled_at,
        expires_at, max_attempts, attempt_timeout, request_id, request_hash, route_key,
        not_before, dispatchable, virtual_start
    )
    SELECT
        id, user_id, job_type, prompt, negative_prompt, checkpoint_model, lora_models, width,
        height, batch_size, seed, params, workflow, template_name, template_version,
        template_arguments, inputs, labels, backend_label, content_id, priority, scheduled_at,
        expires_at, max_attempts, attempt_timeout, request_id, decode(request_hash, 'hex'),
        route_key, not_before, dispatchable, tagged.virtual_start
    FROM fresh LEFT JOIN tagged USING (id)
    ORDER BY user_id, request_id, id
    ON CONFLICT (user_id, request_id) WHERE request_id IS NOT NULL DO NOTHING
    RETURNING {", ".join(_DECIDED)}
)
SELECT admitted.n, admitted.admitted, admitted.max_pending, {_DECIDED_SQL}
FROM admitted LEFT JOIN fresh USING (n) LEFT JOIN job ON job.id = fresh.id
""")


_CREATE: Final = _creating()
_CREATE_SOON: Final = _creating(f"{COMMITTED_SOON}, ")

_BY_REQUEST: Final = statement(f"""
SELECT wanted.n, {JOB_COLUMNS_SQL}
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS wanted (n integer, user_id uuid, request_id text)
JOIN generation_jobs AS job USING (user_id, request_id)
""")


@dataclass(frozen=True, slots=True)
class Created:
    """A stored job; ``is_new`` unless its request_id had stored it before.

    ``is_kept``: it is on the disk. What is not may only be looked at until ``keep`` has returned.
    """

    job: JobRow
    is_new: bool
    is_kept: bool


Fetch: TypeAlias = Callable[[bytes, Mapping[str, Any]], Awaitable[Sequence[Row]]]


class JobCreation:
    """Stores jobs. Calls that arrive together share one statement.

    Statements that run at the same time may together go beyond ``caps.max_pending`` by their own
    jobs. ``is_awaited``: whether somebody waits for jobs with a route key, who may begin with them
    while they are brought to the disk.
    """

    def __init__(
        self,
        database: Database,
        route_keys: RouteKeys,
        caps: UserCaps,
        tally: Tally = UNCOUNTED,
        is_awaited: Callable[[int], bool] = lambda route_key: False,
    ) -> None:
        self._database = database
        self._is_awaited = is_awaited
        self._route_keys = route_keys
        self._caps = caps
        self._tally = tally
        self._joined = Joined(self._create_joined)

    async def create(self, job: NewJob) -> Created:
        """Store a job, or find the one its request_id already stored; to be kept with ``keep``.

        Raises RefusedError: REQUEST_ID_REUSED, QUOTA_EXCEEDED, DATABASE_UNAVAILABLE.
        """
        return await self._joined(job)

    async def keep(self, created: Created) -> None:
        """Return when a job is on the disk. Raises RefusedError: DATABASE_UNAVAILABLE."""
        if not created.is_kept:
            await self._database.flush()

    async def create_all(self, jobs: Sequence[NewJob]) -> list[Created]:
        """Store all of these jobs or, when one is refused, none; in their order.

        Raises RefusedError as ``create`` does, naming the first that was refused.
        """
        keys = await self._route_keys.of([job.needs for job in jobs])
        async with self._database.transaction() as connection:
            created = []
            answers = await self._store(connection.rows, jobs, keys, _CREATE)
            for n, answer in enumerate(answers):
                if isinstance(answer, RefusedError):
                    answer.message = f"requests[{n}]: {answer.message}"
                    raise answer
                created.append(answer)
        self._tally.jobs_created(sum(one.is_new for one in created))
        return created

    async def are_stored(self, jobs: Sequence[NewJob]) -> bool:
        """Whether each of ``jobs`` has a request_id that has stored a job."""
        if not all(job.request_id for job in jobs):
            return False
        rows = [
            {"n": n, "user_id": job.user_id, "request_id": job.request_id}
            for n, job in enumerate(jobs)
        ]
        found = await self._database.rows(_BY_REQUEST, {"rows": as_json(rows)})
        return len(found) == len(jobs)

    async def _create_joined(self, jobs: Sequence[NewJob]) -> Sequence[Created | RefusedError]:
        keys = await self._route_keys.of([job.needs for job in jobs])
        query = _CREATE_SOON if all(map(self._is_awaited, keys)) else _CREATE
        answers = await self._store(self._database.rows, jobs, keys, query)
        self._tally.jobs_created(sum(isinstance(one, Created) and one.is_new for one in answers))
        return answers

    async def _store(
        self, fetch: Fetch, jobs: Sequence[NewJob], keys: Sequence[int], query: bytes
    ) -> list[Created | RefusedError]:
        first: dict[tuple[UUID, str], int] = {}
        same_as = [
            first.setdefault((job.user_id, job.request_id), n) if job.request_id else n
            for n, job in enumerate(jobs)
        ]
        fresh = [n for n, original in enumerate(same_as) if n == original]
        answers = await fetch(
            query,
            {
                "rows": as_json([_columns(n, jobs[n], keys[n]) for n in fresh]),
                "max_pending": self._caps.max_pending,
                "max_running": self._caps.max_running,
            },
        )
        refused = {
            row.n: _over_quota(jobs[row.n], row.max_pending) for row in answers if not row.admitted
        }
        stored = {
            row.n: _new_row(jobs[row.n], keys[row.n], row) for row in answers if row.id is not None
        }
        created = set(stored)
        conflicts = [
            {"n": n, "user_id": jobs[n].user_id, "request_id": jobs[n].request_id}
            for n in fresh
            if n not in stored and n not in refused
        ]
        if conflicts:
            found = await fetch(_BY_REQUEST, {"rows": as_json(conflicts)})
            stored |= {row.n: JobRow.of(row) for row in found}
        return [
            refused.get(same_as[n])
            or _answer(
                job,
                stored.get(same_as[n]),
                is_new=n in created,
                # One that was found may have been stored a moment ago, at another replica.
                is_kept=query is _CREATE and same_as[n] in created,
            )
            for n, job in enumerate(jobs)
        ]


def _answer(
    job: NewJob, row: JobRow | None, *, is_new: bool, is_kept: bool
) -> Created | RefusedError:
    if row is None:
        # The job that held the request_id was deleted between the two statements.
        return RefusedError(
            Refusal.DATABASE_UNAVAILABLE, "the job of this request_id was just deleted; try again"
        )
    if job.request_hash != row.request_hash:
        return RefusedError(
            Refusal.REQUEST_ID_REUSED,
            f"request_id {job.request_id!r} was used for a different job",
            metadata={"job_id": str(row.id)},
        )
    return Created(row, is_new, is_kept)


def _over_quota(job: NewJob, max_pending: int) -> RefusedError:
    return RefusedError(
        Refusal.QUOTA_EXCEEDED,
        f"user {job.user_id} already has {max_pending:,} jobs pending; wait until some are done",
        metadata={"user_id": str(job.user_id), "max_pending": str(max_pending)},
        retry_delay=timedelta(seconds=30),
        quota=f"user:{job.user_id}/pending_jobs",
    )


def _new_row(job: NewJob, route_key: int, decided: Row) -> JobRow:
    """The row that a new job has got."""
    given = zip(_STORED_FIELDS, _stored_fields(job), strict=True)
    drawn = zip(_DECIDED, _decided(decided), strict=True)
    return JobRow(**{**_UNTOUCHED, **dict(given), **dict(drawn), "route_key": route_key})


#: Columns of a new row that no request sets.
_UNTOUCHED: Final[dict[str, Any]] = dict.fromkeys(JOB_COLUMNS) | {
    "status": "pending",
    "delete_when_ended": False,
    "revision": 1,
    "attempt": 0,
    "attempts_charged": 0,
}

#: Not dataclasses.asdict: it copies every value deeply, which takes longer than the whole encoding.
_STORED_FIELDS: Final = tuple(field.name for field in fields(NewJob) if field.name != "needs")


_stored_fields: Final = attrgetter(*_STORED_FIELDS)
_decided: Final = attrgetter(*_DECIDED)


def _columns(n: int, job: NewJob, route_key: int) -> dict[str, Any]:
    columns = dict(zip(_STORED_FIELDS, _stored_fields(job), strict=True))
    columns["n"] = n
    columns["route_key"] = route_key
    columns["request_hash"] = job.request_hash.hex() if job.request_hash else None
    columns["attempt_timeout"] = f"{job.attempt_timeout.total_seconds()} seconds"
    return columns
