"""Statements that keep users within the number of jobs they may have running.

A user with a cap has at most that many jobs dispatchable or running. The others are parked:
pending, due, but not in the index that claims read, so that they neither block nor slow anybody.
Jobs of users without a cap are never parked.
"""

from dataclasses import dataclass
from typing import Final

from job_service.store.database import Database, statement
from job_service.store.fair_share import tagging

#: Any number that nobody else uses as an advisory lock; the letters of "admit".
_LOCK: Final = 0x61646D6974

# Two replicas that counted at the same time would each find the same room. The lock is a statement
# of its own, so that the next one sees what its last holder did.
_ALONE: Final = statement("SELECT pg_advisory_xact_lock(:lock)")

_ADMIT: Final = statement(f"""
WITH RECURSIVE parked_user AS (
    -- a loose index scan: one step for each user, however many jobs each has parked
    (
        SELECT user_id FROM generation_jobs
        WHERE status = 'pending' AND NOT dispatchable AND not_before IS NULL
        ORDER BY user_id LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT user_id FROM generation_jobs
        WHERE status = 'pending' AND NOT dispatchable AND not_before IS NULL
            AND user_id > parked_user.user_id
        ORDER BY user_id LIMIT 1
    )
    FROM parked_user WHERE parked_user.user_id IS NOT NULL
), room AS MATERIALIZED (
    SELECT parked_user.user_id, coalesce(share.max_running, CAST(:max_running AS integer)) - (
        SELECT count(*) FROM generation_jobs AS job
        WHERE job.user_id = parked_user.user_id
            AND (job.status = 'running' OR job.status = 'pending' AND job.dispatchable)
    ) AS places
    FROM parked_user LEFT JOIN user_shares AS share USING (user_id)
    WHERE parked_user.user_id IS NOT NULL
), admitted AS MATERIALIZED (
    SELECT parked.id, parked.user_id, parked.priority, parked.virtual_start
    FROM room CROSS JOIN LATERAL (
        SELECT id, user_id, priority, virtual_start FROM generation_jobs
        WHERE status = 'pending' AND NOT dispatchable AND not_before IS NULL
            AND user_id = room.user_id
        ORDER BY priority DESC, id
        -- without a cap any more: a good many at a time
        LIMIT greatest(coalesce(room.places, 1000), 0)
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS parked
), {tagging("SELECT id, user_id, priority FROM admitted WHERE virtual_start IS NULL")}, done AS (
    UPDATE generation_jobs AS job
    SET dispatchable = true, virtual_start = coalesce(job.virtual_start, tagged.virtual_start)
    FROM admitted LEFT JOIN tagged USING (id) WHERE job.id = admitted.id
    RETURNING job.id
)
SELECT (SELECT array_agg(id) FROM done) AS admitted, (SELECT count(*) FROM room) AS users
""")


@dataclass(frozen=True, slots=True)
class UserCaps:
    """Jobs a user may have pending and running, unless an operator set other numbers for them.

    None: any number.
    """

    max_pending: int | None = None
    max_running: int | None = None


@dataclass(frozen=True, slots=True)
class Admitted:
    """Jobs that have become dispatchable, and how many users had jobs parked before."""

    job_ids: list[int]
    users_with_parked_jobs: int


class AdmissionStore:
    """Lets parked jobs into the queue as their users get room."""

    def __init__(self, database: Database, caps: UserCaps) -> None:
        self._database = database
        self._caps = caps

    async def admit(self) -> Admitted:
        """Make parked jobs dispatchable, as many as their users' caps allow.

        Raises RefusedError: DATABASE_UNAVAILABLE.
        """
        async with self._database.transaction() as connection:
            await connection.run(_ALONE, {"lock": _LOCK})
            row = await connection.row(_ADMIT, {"max_running": self._caps.max_running})
        assert row is not None, "aggregates answer one row"
        return Admitted(list(row.admitted or ()), row.users)
