"""Tells other replicas what happens here, and this one what happens elsewhere.

A notification that is lost costs seconds: everybody reads again now and then without being told,
and at once (``CatchUp``) when the connection that listens has been lost for a while.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Final
from uuid import uuid4

import structlog
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    wait_random_exponential,
)

from job_service.events.hub import (
    CatchUp,
    Hub,
    JobChanged,
    JobPreviewed,
    JobProgressed,
    ManyJobsChanged,
)
from job_service.events.peer_messages import (
    TOPICS,
    Hello,
    Leaving,
    Message,
    PreviewsWanted,
    Progress,
    ProgressWanted,
    parsed,
    payloads,
)
from job_service.events.peers import BEAT, Peers
from job_service.events.preview_exchange import PreviewExchange
from job_service.events.progress_board import ProgressBoard
from job_service.jobs.refusals import RefusedError
from job_service.store.database import Database
from job_service.store.notifications import (
    Listener,
    ListeningFailedError,
    listening,
    notify,
)

#: Seconds between two notifications at least: what happens meanwhile goes together.
_PAUSE: Final = 0.01
#: Seconds between two rounds of progress at least.
_PROGRESS_PAUSE: Final = 0.1
#: Seconds after which a notification that could not be sent is made up for.
_AFTER_FAILURE: Final = 1.0
#: Seconds between the loss of a connection and the first attempt at another.
_BEFORE_RECONNECTING: Final = 0.1
#: Topics that gather. Beyond, others are told to read what has changed of jobs, or everything.
_MOST_TOPICS: Final = 2_000
#: Payloads of progress that go at once. What is beyond is lost: there will be newer.
_MOST_PAYLOADS: Final = 8
#: Watches that are named; beyond, all progress is asked for.
_MOST_WANTED: Final = 500
#: Seconds in which our own first word must come back, and without any word later.
_FIRST_ECHO, _SILENCE = 5.0, BEAT + 5

_RELAYED: Final = frozenset(TOPICS.values())

_log = structlog.get_logger()


class Relay:
    """Connects the hub of this replica with those of others.

    Without others nothing is sent but a sign of life every few seconds. It comes back to the
    connection that listens, and so shows that notifications arrive, not only that it is open.

    ``receivers`` are told each topic from elsewhere before anybody is woken by it.
    """

    def __init__(
        self,
        hub: Hub,
        database: Database,
        listen_url: str,
        board: ProgressBoard,
        previews: PreviewExchange,
        receivers: Sequence[Callable[[Hashable], None]],
    ) -> None:
        self._hub = hub
        self._database = database
        self._url = listen_url
        self._board = board
        self._previews = previews
        self._receivers = receivers
        self._name = uuid4().hex[:8]
        self._peers = Peers(asyncio.get_running_loop().time)
        self._outgoing: dict[Hashable, None] = {}
        self._progressed: set[int] = set()
        self._progress_at = float("-inf")
        self._something = asyncio.Event()

    def published(self, topics: Sequence[Hashable]) -> None:
        """Pass on what concerns others, if there are any."""
        if not self._peers.are_there:
            return
        for topic in topics:
            if isinstance(topic, JobProgressed):
                if self._peers.wanted(ProgressWanted(topic.job_id), ProgressWanted(None)):
                    self._progressed.add(topic.job_id)
                    self._something.set()
            elif isinstance(topic, JobPreviewed):
                if self._peers.wanted(PreviewsWanted(topic.job_id)):
                    self._previews.hand_over(topic.job_id)
            elif type(topic) in _RELAYED:
                self._send(topic)

    def awaited(self, topics: Sequence[Hashable]) -> None:
        """Ask others, if there are any, for what is awaited here."""
        if self._peers.are_there and (wanted := _wanted(topics)):
            self._send(*wanted)

    async def run(self) -> None:
        """Listen, speak and show signs of life for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            tasks.create_task(self._speak())
            tasks.create_task(self._beat())

    async def leave(self) -> None:
        """Tell others, if there are any, that they need not tell this replica anything more."""
        if self._peers.are_there:
            try:
                async with asyncio.timeout(1):
                    await notify(self._database, payloads(self._name, [Leaving()]))
            except (RefusedError, TimeoutError) as error:
                # They find out by its silence.
                _log.info("could not take leave of other replicas", error=str(error))

    def _send(self, *items: Hashable) -> None:
        self._outgoing.update(dict.fromkeys(items))
        if len(self._outgoing) > _MOST_TOPICS:
            others = [one for one in self._outgoing if not isinstance(one, JobChanged)]
            many = len(others) > _MOST_TOPICS
            self._outgoing = dict.fromkeys([CatchUp()] if many else [*others, ManyJobsChanged()])
        self._something.set()

    async def _speak(self) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            topics, self._outgoing = [*self._outgoing], {}
            progress = self._due_progress()
            said = payloads(self._name, topics) if topics or not progress else []
            if progress:
                said += payloads(self._name, progress)[:_MOST_PAYLOADS]
            try:
                await notify(self._database, said)
            except RefusedError as error:
                _log.warning("other replicas could not be told", error=str(error))
                self._send(CatchUp())
                await asyncio.sleep(_AFTER_FAILURE)
            await asyncio.sleep(_PAUSE)

    def _due_progress(self) -> list[Progress]:
        """The latest of all that has progressed, unless it was told a moment ago."""
        if not self._progressed:
            return []
        loop = asyncio.get_running_loop()
        if loop.time() < self._progress_at:
            loop.call_at(self._progress_at, self._something.set)
            return []
        self._progress_at = loop.time() + _PROGRESS_PAUSE
        job_ids, self._progressed = self._progressed, set()
        latest = ((job_id, self._board.latest(job_id)) for job_id in job_ids)
        return [Progress.of(job_id, progress) for job_id, progress in latest if progress]

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            self._peers.forget_old()
            # Without others the sign of life alone, for our own connection.
            self._send(*(_wanted(self._hub.awaited()) if self._peers.are_there else ()))

    async def _listen(self) -> None:
        while True:
            async with AsyncExitStack() as stack:
                retrying = AsyncRetrying(
                    retry=retry_if_exception_type((ListeningFailedError, RefusedError)),
                    wait=wait_random_exponential(multiplier=0.1, max=10),
                    before_sleep=_tell_failure,
                )
                listener: Listener = await retrying(self._joined, stack)
                _log.info("hearing what happens at other replicas", as_replica=self._name)
                try:
                    await self._hear(listener)
                except ListeningFailedError as error:
                    _log.warning("no longer hearing other replicas", error=str(error))
            await asyncio.sleep(_BEFORE_RECONNECTING)

    async def _joined(self, stack: AsyncExitStack) -> Listener:
        """A connection on which our own voice has been heard, and so others' are."""
        async with AsyncExitStack() as attempt:
            listener = await attempt.enter_async_context(listening(self._url))
            self._peers.expected()
            await notify(
                self._database, payloads(self._name, [Hello(), *_wanted(self._hub.awaited())])
            )
            if not await self._hears_itself(listener):
                raise ListeningFailedError(
                    "notifications do not arrive; if a connection pooler is in between, name the"
                    " database itself in JOB_SERVICE_LISTEN_DATABASE_URL"
                )
            stack.push_async_exit(attempt.pop_all())
        # What happened before is to be found in the table.
        self._take([CatchUp()])
        return listener

    async def _hears_itself(self, listener: Listener) -> bool:
        deadline = asyncio.get_running_loop().time() + _FIRST_ECHO
        while heard := await listener.heard(deadline - asyncio.get_running_loop().time()):
            # all of it is taken, whoever has sent it
            if self._name in [self._heard(payload) for payload in heard]:
                return True
        return False

    async def _hear(self, listener: Listener) -> None:
        while heard := await listener.heard(_SILENCE):
            for payload in heard:
                self._heard(payload)
        raise ListeningFailedError("the connection has gone silent")

    def _heard(self, payload: str) -> str | None:
        """Take a payload; who has sent it."""
        try:
            message = parsed(payload)
        except ValueError as error:
            # Whatever it was about is to be found in the table.
            _log.warning("a notification makes no sense", error=str(error))
            self._take([CatchUp()])
            return None
        if message.sender != self._name:
            self._follow(message)
        return message.sender

    def _follow(self, message: Message) -> None:
        self._peers.heard(message.sender)
        topics = []
        for item in message.items:
            match item:
                case Hello():
                    self._send(*_wanted(self._hub.awaited()))
                case Leaving():
                    self._peers.left(message.sender)
                case ProgressWanted() | PreviewsWanted():
                    if not self._peers.wanted(item):
                        self._show_at_once(item)
                    self._peers.want(item)
                case Progress():
                    if (progress := item.message) is not None:
                        self._board.forwarded(item.job_id, progress)
                case _:
                    topics.append(item)
        self._take(topics)

    def _show_at_once(self, wanted: ProgressWanted | PreviewsWanted) -> None:
        """Have somebody who begins to watch shown what was last reported here."""
        if isinstance(wanted, PreviewsWanted):
            self._previews.hand_over(wanted.job_id)
        else:
            self._progressed.update(self._board.reporting(wanted.job_id))
            self._something.set()

    def _take(self, topics: Sequence[Hashable]) -> None:
        for topic in topics:
            for receiver in self._receivers:
                receiver(topic)
        self._hub.wake(*topics)


def _wanted(awaited: Iterable[Hashable]) -> list[Hashable]:
    """What others shall send because it is awaited here."""
    progress = [one.job_id for one in awaited if isinstance(one, JobProgressed)]
    previews = [one.job_id for one in awaited if isinstance(one, JobPreviewed)]
    if len(progress) > _MOST_WANTED or JobProgressed in awaited:
        wanted: list[Hashable] = [ProgressWanted(None)]
    else:
        wanted = [ProgressWanted(job_id) for job_id in progress]
    return [*wanted, *(PreviewsWanted(job_id) for job_id in previews[:_MOST_TOPICS])]


def _tell_failure(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    _log.warning(
        "not hearing other replicas; what they do is found by reading again",
        error=str(error),
        attempt=state.attempt_number,
        again_in=round(state.upcoming_sleep, 1),
    )
