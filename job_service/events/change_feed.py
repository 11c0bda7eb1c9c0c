"""One reading of what changes in the table, for every watch of many jobs at this replica."""

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Flag, auto
from typing import Final, Protocol

import structlog

from job_service.events.hub import (
    CatchUp,
    Hub,
    JobChanged,
    JobProgressed,
    ManyJobsChanged,
    Subscription,
)
from job_service.jobs.refusals import Refusal, RefusedError
from job_service.store.changes import Change, ChangePage, ChangeStore, Position

#: Seconds between two readings at least: what changes meanwhile is read together.
_PAUSE: Final = 0.05
#: Seconds between two rounds of progress at least.
_PROGRESS_PAUSE: Final = 0.5
#: Jobs a watch may lag behind by. Beyond that it reads again what has changed.
MOST_PENDING: Final = 10_000
#: What says that there are changes.
_TO_BE_READ: Final = (JobChanged, ManyJobsChanged, CatchUp)

_log = structlog.get_logger()


class News(Flag):
    """What is new of a job."""

    CHANGED = auto()
    PROGRESSED = auto()
    DELETED = auto()


class Interest(Protocol):
    """Which jobs a watch is about, as far as can be told without reading them."""

    def in_change(self, change: Change) -> bool:
        """Whether it may have to tell of this change."""

    def in_progress_of(self, job_id: int) -> bool:
        """Whether it may have to tell of this job's progress."""


def news_in(changes: Iterable[Change], interest: Interest) -> dict[int, News]:
    """What these changes mean to a watch."""
    found: dict[int, News] = {}
    for change in changes:
        if interest.in_change(change):
            news = News.CHANGED if change.status else News.CHANGED | News.DELETED
            found[change.job_id] = found.get(change.job_id, news) | news
    return found


@dataclass(frozen=True, slots=True)
class Batch:
    """What there is to tell a watch; afterwards it knows everything up to ``position``.

    That may still be on its way to the disk; to await it raises RefusedError where it does not get
    there: DATABASE_UNAVAILABLE.

    ``overflowed``: more than could be kept; everything since the position before is to be read.
    """

    news: dict[int, News]
    position: "asyncio.Future[Position]"
    overflowed: bool


class Follower:
    """The jobs that one watch has yet to tell of: each once, whatever happens to it meanwhile.

    What has changed since ``first_position`` is noted.
    """

    def __init__(self, interest: Interest, position: Position) -> None:
        self.first_position = position
        self._interest = interest
        self._news: dict[int, News] = {}
        self._position = _known(position)
        self._overflowed = False

    def take(self) -> Batch:
        """Everything that has gathered."""
        batch = Batch(self._news, self._position, self._overflowed)
        self._news, self._overflowed = {}, False
        return batch

    def change(self, changes: Iterable[Change]) -> bool:
        """Note changes; whether there is something to tell."""
        if not self._overflowed:
            for job_id, news in news_in(changes, self._interest).items():
                self._news[job_id] = self._news.get(job_id, news) | news
            if len(self._news) > MOST_PENDING:
                self.overflow()
        return self._overflowed or bool(self._news)

    def progress(self, job_ids: Iterable[int]) -> bool:
        """Note progress, as far as there is room; whether there is something to tell."""
        for job_id in job_ids:
            if len(self._news) < MOST_PENDING and self._interest.in_progress_of(job_id):
                self._news[job_id] = self._news.get(job_id, News.PROGRESSED) | News.PROGRESSED
        return bool(self._news)

    def overflow(self) -> None:
        """Have everything since the last position read again."""
        self._news.clear()
        self._overflowed = True

    def reach(self, position: "asyncio.Future[Position]") -> None:
        """Note that all changes up to ``position`` have been noted."""
        self._position = position


def _known(position: Position) -> "asyncio.Future[Position]":
    known: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
    known.set_result(position)
    return known


class ChangeFeed:
    """Reads what has changed as soon as somebody says so, and every few seconds anyway.

    However many watches there are, one statement reads for all; without watches there is none.
    ``catch_up``: seconds between two readings when nobody says that something has changed.
    """

    def __init__(self, hub: Hub, changes: ChangeStore, catch_up: float) -> None:
        self._hub = hub
        self._changes = changes
        self._catch_up = catch_up
        self._followers: set[Follower] = set()
        self._followed = asyncio.Event()
        self._read_up_to: Position | None = None
        self._progressed: set[int] = set()

    @asynccontextmanager
    async def follow(self, interest: Interest) -> AsyncIterator[tuple[Follower, Subscription]]:
        """Note what changes from now on; the subscription wakes when there is something to tell."""
        position = await self._changes.position()
        if self._read_up_to is None:
            self._read_up_to = position
        follower = Follower(interest, position)
        self._followers.add(follower)
        self._followed.set()
        try:
            with self._hub.subscribe(follower) as subscription:
                yield follower, subscription
        finally:
            self._followers.discard(follower)
            if not self._followers:
                self._followed.clear()
                self._read_up_to = None

    async def run(self) -> None:
        """Read for ever."""
        while True:
            await self._followed.wait()
            with self._hub.subscribe(JobProgressed, *_TO_BE_READ) as subscription:
                await self._read_while_followed(subscription)

    async def _read_while_followed(self, subscription: Subscription) -> None:
        clock = asyncio.get_running_loop().time
        catch_up_at = progress_at = clock()
        fired: set[Hashable] = set()
        while self._followers:
            self._progressed.update(
                topic.job_id for topic in fired if isinstance(topic, JobProgressed)
            )
            if clock() >= catch_up_at or any(isinstance(topic, _TO_BE_READ) for topic in fired):
                await self._read()
                catch_up_at = clock() + self._catch_up
                # Who comes now waits a moment, who came after a silence did not.
                await asyncio.sleep(_PAUSE)
            if self._progressed and clock() >= progress_at:
                self._tell_progress()
                progress_at = clock() + _PROGRESS_PAUSE
            wake_at = min(catch_up_at, progress_at) if self._progressed else catch_up_at
            fired = await subscription.take(max(wake_at - clock(), 0))

    async def _read(self) -> None:
        since = self._read_up_to
        if since is None:
            return
        try:
            first = None
            async for page in self._changes.since(since):
                first = first or page
                self._wake(one for one in self._followers if one.change(page.changes))
            # Where nothing has changed, the position before is as good, and it is kept.
            if self._followers and first is not None and (first.changes or first.is_kept):
                await self._reach(since, first)
        except RefusedError as error:
            _log.warning("reading changes failed", error=str(error))
            if error.refusal is Refusal.RESUME_TOKEN_EXPIRED:
                # Nothing could be read for days. Each watch will find the same, and say so.
                await self._give_up()

    async def _reach(self, since: Position, page: ChangePage) -> None:
        """Go on from a page's position once that is kept; watches read their jobs meanwhile."""
        kept = asyncio.ensure_future(self._changes.keep(page))
        for follower in self._followers:
            follower.reach(kept)
        try:
            position = await kept
        except RefusedError:
            for follower in self._followers:
                follower.reach(_known(since))
            raise
        if self._read_up_to is since:
            self._read_up_to = position

    async def _give_up(self) -> None:
        self._read_up_to = await self._changes.position()
        for follower in self._followers:
            follower.overflow()
        self._wake(self._followers)

    def _tell_progress(self) -> None:
        progressed, self._progressed = self._progressed, set()
        self._wake(follower for follower in self._followers if follower.progress(progressed))

    def _wake(self, followers: Iterable[Follower]) -> None:
        self._hub.wake(*followers)
