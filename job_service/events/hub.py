"""Wakes whoever waits for something inside this replica.

Topics say what to read again, not what has become of it: who is woken reads the truth. So a topic
published twice, or by mistake, costs a read and never an event.
"""

import asyncio
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class JobChanged:
    """The row of a job is new, has changed or is gone."""

    job_id: int


@dataclass(frozen=True, slots=True)
class ManyJobsChanged:
    """More rows have changed at another replica than are told one by one."""


@dataclass(frozen=True, slots=True)
class JobProgressed:
    """Progress of a job on the progress board has changed."""

    job_id: int


@dataclass(frozen=True, slots=True)
class JobPreviewed:
    """The progress board has a newer preview of a job."""

    job_id: int


@dataclass(frozen=True, slots=True)
class PreviewStored:
    """A preview of a job is in the table, for the replicas where it is watched."""

    job_id: int


@dataclass(frozen=True, slots=True)
class QueueMoved:
    """A pending job stands elsewhere in the queue."""

    job_id: int


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """Somebody wants a running job to end."""

    job_id: int


@dataclass(frozen=True, slots=True)
class WorkerConcerned:
    """Something concerns a worker process: a cancel, a drain, a successor."""

    worker_id: int


@dataclass(frozen=True, slots=True)
class WorkerRegistered:
    """A new process has the name of a worker; those with a lower epoch are superseded."""

    name: str
    epoch: int


@dataclass(frozen=True, slots=True)
class DrainChanged:
    """An operator has drained a worker process, or resumed it."""

    worker_id: int
    drain: bool


@dataclass(frozen=True, slots=True)
class CataloguesReported:
    """A worker has said anew what its ComfyUIs offer."""

    worker: str


@dataclass(frozen=True, slots=True)
class CataloguesWanted:
    """Every worker shall say anew what its ComfyUIs offer."""


@dataclass(frozen=True, slots=True)
class PausesChanged:
    """An operator has paused dispatch, or resumed it."""


@dataclass(frozen=True, slots=True)
class RouteKeysAdded:
    """Jobs need what none has needed before: there are new route keys."""


@dataclass(frozen=True, slots=True)
class WorkAvailable:
    """A job may have become claimable, one with this route key; None: with any."""

    route_key: int | None = None


@dataclass(frozen=True, slots=True)
class JobQueued:
    """A new job can be claimed. Told before ``WorkAvailable``, where the job was created."""

    job_id: int
    route_key: int


@dataclass(frozen=True, slots=True)
class AdmissionDue:
    """A job was parked because its user may not have more of them running."""


@dataclass(frozen=True, slots=True)
class JobEnded:
    """A running job has ended, or a dispatchable one is gone: its user may have room for more."""


@dataclass(frozen=True, slots=True)
class UpkeepDue:
    """Something the upkeep loop looks after may have come nearer."""


@dataclass(frozen=True, slots=True)
class SweepDue:
    """A job is to be removed, or is gone, or an attempt has come to nothing: files may go."""


@dataclass(frozen=True, slots=True)
class TokensChanged:
    """A token of the database was revoked."""


@dataclass(frozen=True, slots=True)
class CatchUp:
    """Anything may have changed without this replica having been told: look again."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The replica shuts down: held calls must end. Everybody receives it."""


class Subscription:
    """Topics that have been published since they were last taken."""

    def __init__(self) -> None:
        self._fired: set[Hashable] = set()
        self._woken = asyncio.Event()

    async def take(self, timeout: float | None = None) -> set[Hashable]:  # noqa: ASYNC109
        """Wait until something fires, and take all that has; empty after ``timeout`` seconds."""
        if not self._woken.is_set():
            try:
                async with asyncio.timeout(timeout):
                    await self._woken.wait()
            except TimeoutError:
                return set()
        fired, self._fired = self._fired, set()
        self._woken.clear()
        return fired

    def fire(self, topic: Hashable) -> None:
        """Note that a topic was published."""
        self._fired.add(topic)
        self._woken.set()


class Outlet(Protocol):
    """Takes topics further than this replica."""

    def published(self, topics: Sequence[Hashable]) -> None:
        """Something has happened here."""

    def awaited(self, topics: Sequence[Hashable]) -> None:
        """Somebody here waits for these topics from now on."""


class Hub:
    """Connects publishers and subscribers of topics in one event loop."""

    def __init__(self) -> None:
        self._subscriptions: dict[Hashable, set[Subscription]] = {}
        self._outlet: Outlet | None = None
        self.stopping = False

    def lead_to(self, outlet: Outlet) -> None:
        """Have an outlet told what is published and awaited from now on."""
        self._outlet = outlet

    def publish(self, *topics: Hashable) -> None:
        """Tell everybody what has happened: subscribers here and, by the outlet, others.

        A subscriber gets what it asked for by topic, or by the kind of topic.
        """
        self.wake(*topics)
        if self._outlet is not None:
            self._outlet.published(topics)

    def wake(self, *topics: Hashable) -> None:
        """Tell subscribers in this replica only: others have been told, or are not concerned."""
        for topic in topics:
            for key in (topic, type(topic)):
                for subscription in self._subscriptions.get(key, ()):
                    subscription.fire(topic)

    def stop(self) -> None:
        """Wake everybody who waits with ``Stopping``; whoever subscribes later has it at once."""
        self.stopping = True
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.fire(Stopping())

    @contextmanager
    def subscribe(self, *topics: Hashable) -> Iterator[Subscription]:
        """Receive these topics from now on, until the block is left.

        A class stands for all topics of its kind: ``subscribe(JobChanged)`` hears of every job.
        """
        subscription = Subscription()
        if self.stopping:
            subscription.fire(Stopping())
        for topic in topics:
            self._subscriptions.setdefault(topic, set()).add(subscription)
        if self._outlet is not None:
            self._outlet.awaited(topics)
        try:
            yield subscription
        finally:
            for topic in topics:
                subscribers = self._subscriptions[topic]
                subscribers.discard(subscription)
                if not subscribers:
                    del self._subscriptions[topic]

    def is_awaited(self, topic: Hashable) -> bool:
        """Whether somebody waits for just this topic."""
        return topic in self._subscriptions

    def awaited(self) -> list[Hashable]:
        """Everything that somebody waits for: topics, and classes for all topics of a kind."""
        return list(self._subscriptions)

    def watched_jobs(self) -> list[int]:
        """Ids of the jobs that somebody waits for."""
        return [topic.job_id for topic in self._subscriptions if isinstance(topic, JobChanged)]
