"""Level-triggered watches of many jobs: each matching job's newest state, whenever it moves."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from job_service.events.change_feed import ChangeFeed, Follower, News, news_in
from job_service.events.hub import Hub, Stopping
from job_service.jobs.refusals import Refusal, RefusedError
from job_service.store.changes import Change, ChangeStore, Position
from job_service.store.conditions import JobConditions
from job_service.store.jobs import JobStore
from job_service.store.joined import Joined
from job_service.store.listing import JobListing, ListingStore, Order
from job_service.store.tables import JobRow

#: Jobs that a watch remembers having told of, or not having to tell of.
MOST_REMEMBERED: Final = 10_000
#: Jobs that a watch holds in memory while it sends them.
_AT_ONCE: Final = 25
#: Watches whose readings share a statement, jobs of one statement.
_JOINED, _MOST_READ = 32, 200
#: What one page of an opening may weigh, in jobs and in bytes of text.
_PAGE_JOBS, _PAGE_BYTES = 200, 512 * 1024


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """A matching job as it is now, or the id of one that is gone or matches no more, or neither.

    ``position``: where a later watch goes on after this event; None: as after the one before.
    """

    job: JobRow | None = None
    removed: int | None = None
    position: Position | None = None

    @property
    def says_something(self) -> bool:
        """Whether it is about a job."""
        return self.job is not None or self.removed is not None


class JobsWatches:
    """Serves watches of many jobs. Watches that read at the same time share a statement."""

    def __init__(
        self,
        hub: Hub,
        feed: ChangeFeed,
        changes: ChangeStore,
        jobs: JobStore,
        listing: ListingStore,
    ) -> None:
        self._hub = hub
        self._feed = feed
        self._changes = changes
        self._jobs = jobs
        self._listing = listing
        self._read = Joined(self._read_joined, most=_JOINED)

    async def watch(
        self,
        conditions: JobConditions,
        *,
        since: Position | None,
        changes_only: bool,
        keep_alive: float,
    ) -> AsyncIterator[WatchEvent]:
        """The matching jobs, or what has changed since a position; then each change, for ever.

        The first event with a position ends the opening. An event with nothing but a position
        stands for ``keep_alive`` seconds without news. A job is the newest there is: states in
        between may be skipped.

        Raises RefusedError: SHUTTING_DOWN, RESUME_TOKEN_EXPIRED.
        """
        interest = _Interest(conditions, knows_all=since is None and not changes_only)
        async with self._feed.follow(interest) as (follower, subscription):
            reached = follower.first_position
            if since is not None:
                async for event in self._changed(interest, since):
                    reached = event.position or reached
                    yield event
            else:
                if not changes_only:
                    async for job in self._matching(conditions):
                        interest.told(job.id, job.revision)
                        yield WatchEvent(job=job)
                yield WatchEvent(position=reached)
            interest.opened = True
            clock = asyncio.get_running_loop().time
            silent_until = clock() + keep_alive
            while True:
                fired = await subscription.take(max(silent_until - clock(), 0))
                if Stopping() in fired:
                    raise _shutting_down()
                async for event in self._news(interest, follower, reached):
                    reached = event.position or reached
                    if event.says_something or clock() >= silent_until:
                        yield event
                        silent_until = clock() + keep_alive

    async def _matching(self, conditions: JobConditions) -> AsyncIterator[JobRow]:
        """All matching jobs, oldest first."""
        listing = JobListing(conditions, _PAGE_JOBS, _PAGE_BYTES, Order.CREATED_ASC)
        while True:
            self._refuse_when_stopping()
            page = await self._listing.page(listing)
            for job in page.jobs:
                yield job
            if not page.more:
                return
            listing = replace(listing, after=listing.order.place_of(page.jobs[-1]))

    async def _changed(self, interest: "_Interest", since: Position) -> AsyncIterator[WatchEvent]:
        """What has changed since; the last event has nothing but a position."""
        first = None
        async for page in self._changes.since(since):
            self._refuse_when_stopping()
            first = first or page
            async for event in self._told(interest, news_in(page.changes, interest)):
                yield event
        assert first is not None, "there is at least one page"
        yield WatchEvent(position=await self._changes.keep(first))

    async def _news(
        self, interest: "_Interest", follower: Follower, since: Position
    ) -> AsyncIterator[WatchEvent]:
        """What has gathered; the last event has the position it leads to."""
        batch = follower.take()
        if batch.overflowed:
            async for event in self._changed(interest, since):
                yield event
            return
        last = WatchEvent()
        async for event in self._told(interest, batch.news):
            if last.says_something:
                yield last
            last = event
        yield replace(last, position=await asyncio.shield(batch.position))

    async def _told(
        self, interest: "_Interest", news: dict[int, News]
    ) -> AsyncIterator[WatchEvent]:
        """Each of these jobs as it is now, as far as it is for this watch to tell."""
        ids = iter(news)
        while chunk := list(islice(ids, _AT_ONCE)):
            interest.reading.update(chunk)
            jobs = await self._read(chunk)
            held = [job.id for job in jobs.values() if interest.conditions.hold(job)]
            matching = set(held)
            if held and interest.conditions.search:
                matching = await self._listing.matching(interest.conditions, held)
            for job_id in chunk:
                event = interest.event(
                    job_id, jobs.get(job_id), news[job_id], matches=job_id in matching
                )
                if event is not None:
                    yield event

    async def _read_joined(
        self, requests: Sequence[Sequence[int]]
    ) -> Sequence[dict[int, JobRow] | Exception]:
        ids = sorted({job_id for request in requests for job_id in request})
        found: dict[int, JobRow] = {}
        for start in range(0, len(ids), _MOST_READ):
            found |= await self._jobs.get_basic(ids[start : start + _MOST_READ])
        return [
            {job_id: found[job_id] for job_id in request if job_id in found} for request in requests
        ]

    def _refuse_when_stopping(self) -> None:
        if self._hub.stopping:
            raise _shutting_down()


class _Interest:
    """What one watch wants to know and has told already.

    ``knows_all``: every matching job has been told, so that a job that is not remembered was not
    matching. Otherwise it may have been, and is told as removed if it is gone or does not match.

    ``opened``: the opening has been told. ``reading``: jobs that have been read, or are about to
    be, and not been told yet.
    """

    def __init__(self, conditions: JobConditions, *, knows_all: bool) -> None:
        self.conditions = conditions
        self._knows_all = knows_all
        # The revision that was told of a job; None: it is known not to match.
        self._remembered: OrderedDict[int, int | None] = OrderedDict()
        self.opened = False
        self.reading: set[int] = set()

    def in_change(self, change: Change) -> bool:
        """Whether the job may be, or have been, one that the watch is about."""
        ids, user_id = self.conditions.ids, self.conditions.user_id
        return (
            (not ids or change.job_id in ids)
            # Nobody's job may have been the user's before the application deleted the user.
            and (user_id is None or change.user_id in (None, user_id))
            and (self._may_be_in_state(change.status) or not self._is_untold(change.job_id))
        )

    def _may_be_in_state(self, status: str | None) -> bool:
        statuses = self.conditions.statuses
        return status is None or not statuses or status in statuses

    def _is_untold(self, job_id: int) -> bool:
        """Whether it is certain that the job is not, and will not be, told of as it was before.

        What has been read may be on its way to be told, although it has changed since.
        """
        return (
            self.opened
            and job_id not in self.reading
            and self._remembered.get(job_id) is None
            and (self._knows_all or job_id in self._remembered)
        )

    def in_progress_of(self, job_id: int) -> bool:
        """Whether the job may be one that matches."""
        if job_id in self._remembered:
            return self._remembered[job_id] is not None
        return not self._knows_all

    def told(self, job_id: int, revision: int | None) -> None:
        """Remember that a job was told at this revision; None: that it does not match."""
        if revision is None and self._knows_all:
            self._remembered.pop(job_id, None)
            return
        self._remembered[job_id] = revision
        self._remembered.move_to_end(job_id)
        if len(self._remembered) > MOST_REMEMBERED:
            _, forgotten = self._remembered.popitem(last=False)
            self._knows_all = self._knows_all and forgotten is None

    def event(
        self, job_id: int, job: JobRow | None, news: News, *, matches: bool
    ) -> WatchEvent | None:
        """What there is to tell of a job as it is now, if anything."""
        self.reading.discard(job_id)
        was_told = self._remembered.get(job_id) is not None
        if job is not None and matches:
            if news is News.CHANGED and self._remembered.get(job_id) == job.revision:
                return None
            self.told(job_id, job.revision)
            return WatchEvent(job=job)
        if was_told or self._may_have_matched(job_id, job, news):
            self.told(job_id, None)
            return WatchEvent(removed=job_id)
        if job is not None:
            self.told(job_id, None)
        return None

    def _may_have_matched(self, job_id: int, job: JobRow | None, news: News) -> bool:
        if self._knows_all or job_id in self._remembered or news is News.PROGRESSED:
            return False
        return job is None or self.conditions.may_have_held(job)


def _shutting_down() -> RefusedError:
    return RefusedError(Refusal.SHUTTING_DOWN, "this replica shuts down; watch again")
