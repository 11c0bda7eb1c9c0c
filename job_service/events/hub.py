"""Wakes whoever waits for something inside this replica.

Topics carry no data: who is woken reads the truth again. So a topic published twice, or by
mistake, costs a read and never an event.
"""

import asyncio
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JobChanged:
    """The row of a job is new, has changed or is gone."""

    job_id: int


@dataclass(frozen=True, slots=True)
class JobProgressed:
    """Progress of a job on the progress board has changed."""

    job_id: int


@dataclass(frozen=True, slots=True)
class QueueMoved:
    """A pending job stands elsewhere in the queue."""

    job_id: int


@dataclass(frozen=True, slots=True)
class WorkerConcerned:
    """Something concerns a worker process: a cancel, a drain, a successor."""

    worker_id: int


@dataclass(frozen=True, slots=True)
class WorkAvailable:
    """A job may have become claimable."""


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
class Stopping:
    """The replica shuts down: held calls must end. Everybody receives it."""


class Subscription:
    """Topics that have been published since they were last taken."""

    def __init__(self) -> None:
        self._fired: set[Hashable] = set()
        self._woken = asyncio.Event()

    async def take(self, timeout: float | None = None) -> set[Hashable]:  # noqa: ASYNC109
        """Wait until something fires, and take all that has; empty after ``timeout`` seconds."""
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


class Hub:
    """Connects publishers and subscribers of topics in one event loop."""

    def __init__(self) -> None:
        self._subscriptions: dict[Hashable, set[Subscription]] = {}
        self.stopping = False

    def publish(self, *topics: Hashable) -> None:
        """Wake every subscriber of these topics, or of all topics of their kind."""
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

    def watched_jobs(self) -> list[int]:
        """Ids of the jobs that somebody waits for."""
        return [topic.job_id for topic in self._subscriptions if isinstance(topic, JobChanged)]
