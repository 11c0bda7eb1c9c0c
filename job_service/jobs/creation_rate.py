"""How fast a user may create jobs: a bucket of tokens for each user, a token for each job. Pure."""

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from job_service.jobs.refusals import Refusal, RefusedError

#: Users who are remembered; whoever created nothing for longest is forgotten first, with which
#: their bucket is full again.
_MOST_USERS: Final = 10_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


class CreationRate:
    """Lets each user create ``rate`` jobs a second in the long run, and ``burst`` at once.

    ``rate`` 0: any number. A batch larger than the burst is taken when the bucket is full, and
    makes the user wait for longer afterwards. ``clock`` answers seconds.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[UUID, _Bucket] = OrderedDict()

    def take(self, owners: Iterable[UUID]) -> None:
        """Take a token for each new job, by whose it is; all of them or none.

        Raises RefusedError: QUOTA_EXCEEDED.
        """
        if not self._rate:
            return
        wanted = Counter(owners)
        for user_id, jobs in wanted.items():
            missing = min(jobs, self._burst) - self._filled(user_id).tokens
            if missing > 0:
                raise self._too_fast(user_id, missing / self._rate)
        for user_id, jobs in wanted.items():
            self._filled(user_id).tokens -= jobs
        while len(self._buckets) > _MOST_USERS:
            self._buckets.popitem(last=False)

    def _filled(self, user_id: UUID) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.get(user_id)
        if bucket is None:
            bucket = self._buckets[user_id] = _Bucket(self._burst, now)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.filled_at) * self._rate)
        bucket.filled_at = now
        self._buckets.move_to_end(user_id)
        return bucket

    def _too_fast(self, user_id: UUID, seconds: float) -> RefusedError:
        return RefusedError(
            Refusal.QUOTA_EXCEEDED,
            f"user {user_id} creates jobs faster than {self._rate:g} a second; try again in"
            f" {seconds:.3g} seconds",
            metadata={"user_id": str(user_id), "jobs_per_second": f"{self._rate:g}"},
            retry_delay=timedelta(milliseconds=math.ceil(seconds * 1000)),
            quota=f"user:{user_id}/created_jobs",
        )
