"""The workers this replica knows, and what jobs each of their ComfyUIs can run."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from generation_jobs.v1 import job_error_pb2, worker_service_pb2
from generation_jobs.v1.worker_service_pb2 import BackendCatalogue

from job_service.events.hub import (
    CataloguesReported,
    CataloguesWanted,
    DrainChanged,
    Hub,
    JobChanged,
    PausesChanged,
    WorkAvailable,
    WorkerConcerned,
    WorkerRegistered,
)
from job_service.jobs.error_policy import error_of
from job_service.jobs.node_signatures import PackedSignatures
from job_service.jobs.offered_names import OfferedNames, by_backend_label
from job_service.jobs.refusals import Refusal, RefusedError, Violation, invalid_fields
from job_service.jobs.routing import Needs
from job_service.queue.signature_cache import SignatureCache
from job_service.store.endings import Ending, EndingStore
from job_service.store.lease_key import LeaseKey
from job_service.store.models import ModelStore
from job_service.store.pauses import Pause, PauseStore
from job_service.store.route_keys import RouteKeys
from job_service.store.workers import Catalogue, LiveOffer, Registration, WorkerStore

#: Seconds for which what is known of a process is not looked up again.
_FRESH: Final = 10.0
#: Seconds for which what live workers offer is not looked up again.
_OFFERS_FRESH: Final = 2.0
#: Worker processes remembered.
_CAPACITY: Final = 10_000

_log = structlog.get_logger()


@dataclass(slots=True)
class BeatMemory:
    """What a process was told by its last heartbeat, and which leases it keeps not listing.

    ``unclaimed``: by lease token, how many heartbeats did not list it, and since when.
    """

    told: "set[tuple[UUID, worker_service_pb2.Verdict.ValueType]]" = field(default_factory=set)
    directives: frozenset[int] = frozenset()
    unclaimed: dict[UUID, tuple[int, float]] = field(default_factory=dict)


@dataclass(slots=True)
class Member:
    """A worker process.

    ``next_checkpoint``: by ComfyUI, the checkpoint of the job it was given last.
    """

    name: str
    instance_id: UUID
    registration: Registration
    checked_at: float
    description: object = None
    catalogues: dict[str, Catalogue] = field(default_factory=dict)
    memory: BeatMemory = field(default_factory=BeatMemory)
    next_checkpoint: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> int:
        """Its row in the table of workers."""
        return self.registration.id

    def knows(self, digests: Mapping[str, str]) -> bool:
        """Whether its catalogues have these digests, by the configured name of the ComfyUI."""
        return all(
            backend in self.catalogues and self.catalogues[backend].digest == digest
            for backend, digest in digests.items()
        )


@dataclass(frozen=True, slots=True)
class Line:
    """The route keys whose jobs wait for the same ComfyUIs, and how many those are."""

    route_keys: frozenset[int]
    comfyuis: int


class Fleet:
    """Recognises workers by name and instance, and knows what they offer."""

    def __init__(
        self,
        hub: Hub,
        workers: WorkerStore,
        endings: EndingStore,
        route_keys: RouteKeys,
        pauses: PauseStore,
        models: ModelStore,
        signatures: SignatureCache,
        ttl: timedelta,
    ) -> None:
        self._hub = hub
        self._workers = workers
        self._endings = endings
        self._route_keys = route_keys
        self._pause_store = pauses
        self._models = models
        self._signatures = signatures
        self._ttl = ttl
        self._members: dict[UUID, Member] = {}
        self._epochs: dict[str, int] = {}
        self._keys: dict[tuple[str, str], tuple[object, frozenset[int]]] = {}
        self._offers: list[LiveOffer] = []
        self._names: dict[str, OfferedNames] = {}
        self._pauses: frozenset[Pause] = frozenset()
        self._offers_at = float("-inf")
        self._offers_lock = asyncio.Lock()
        self._lines: dict[Needs, Line | None] = {}
        self._lines_for: object = None

    async def recognise(self, name: str, instance_id: UUID) -> Member:
        """The process that calls; one seen for the first time takes over its name.

        Raises RefusedError: INVALID_FIELDS when the instance id belongs to another name.
        """
        member = self._members.get(instance_id)
        now = time.monotonic()
        if member is not None and member.name == name and now - member.checked_at < _FRESH:
            return member
        registration = await self._workers.find(name, instance_id)
        if registration is None:
            registration = await self._register(name, instance_id)
        if member is None:
            if len(self._members) >= _CAPACITY:
                del self._members[next(iter(self._members))]
            member = Member(name, instance_id, registration, now)
            member.catalogues = await self._workers.catalogues(name)
            member = self._members.setdefault(instance_id, member)
        # Processes that start at the same moment learn of each other here: what the table said of
        # one may be older than the other's registration.
        newest = self._note_epoch(name, registration.epoch)
        if member.id != registration.id:  # removed meanwhile, and registered anew
            member.description = None
        member.registration = replace(
            registration, superseded=registration.superseded or registration.epoch < newest
        )
        member.checked_at = now
        return member

    def refuse_superseded(self, member: Member) -> None:
        """Raise SUPERSEDED if a newer process has the member's name."""
        if member.registration.superseded:
            raise RefusedError(
                Refusal.SUPERSEDED,
                f"a newer process serves as worker {member.name!r}",
                metadata={"worker": member.name},
            )

    async def describe(
        self,
        member: Member,
        *,
        version: str,
        backend_labels: Sequence[str],
        job_types: Sequence[str],
        backends: Sequence[Mapping[str, Any]],
    ) -> None:
        """Take what a worker says it is; written down only when it has changed."""
        description = (version, tuple(backend_labels), tuple(job_types), repr(backends))
        if member.description == description:
            return
        await self._workers.describe(
            member.id,
            version=version,
            backend_labels=backend_labels,
            job_types=job_types,
            backends=backends,
        )
        member.description = description
        self._offers_at = float("-inf")

    async def take_catalogues(
        self,
        member: Member,
        catalogues: Sequence[Catalogue],
        signatures: Sequence[PackedSignatures | None],
    ) -> None:
        """Take what a worker's ComfyUIs offer, and what the node classes of each take and give."""
        await self._workers.report_catalogues(member.name, catalogues, signatures)
        await self._models.note([catalogue.content for catalogue in catalogues])
        for catalogue in catalogues:
            member.catalogues[catalogue.backend] = catalogue
        self.catalogues_reported(member.name)
        self._hub.publish(CataloguesReported(member.name), WorkAvailable())

    async def has_catalogues(self, member: Member, digests: Mapping[str, str]) -> bool:
        """Whether it is known what a worker's ComfyUIs offer; maybe another replica was told."""
        if not member.knows(digests):
            member.catalogues = await self._workers.catalogues(member.name)
        return member.knows(digests)

    def route_keys(
        self,
        member: Member,
        backend: str,
        digest: str,
        job_types: Sequence[str],
        backend_labels: Sequence[str],
    ) -> frozenset[int] | None:
        """The keys of the jobs a ComfyUI can run; None: its catalogue is not known.

        Worked out again only when there is a new key or a new catalogue.
        """
        catalogue = member.catalogues.get(backend)
        if catalogue is None or catalogue.digest != digest:
            return None
        known = self._route_keys.known
        worked_out_for = (
            digest,
            tuple(job_types),
            tuple(backend_labels),
            len(known),
            self._pauses,
        )
        before, keys = self._keys.get((member.name, backend), (None, frozenset()))
        if before != worked_out_for:
            offer = catalogue.offer(job_types, backend_labels)
            keys = frozenset(
                key
                for key, needs in known.items()
                if offer.serves(needs) and not self.is_paused(needs)
            )
            self._keys[member.name, backend] = worked_out_for, keys
        return keys

    async def learn(self) -> bool:
        """Learn of route keys and pauses that came from other replicas; whether there are new ones.

        Raises RefusedError: DATABASE_UNAVAILABLE.
        """
        before = self._pauses
        new_keys = await self._route_keys.refresh()
        self._pauses = await self._pause_store.all()
        return new_keys or self._pauses != before

    async def needs_of(self, route_key: int | None) -> Needs | None:
        """What jobs with this key need."""
        if route_key is None:
            return None
        if route_key not in self._route_keys.known:
            await self._route_keys.refresh()
        return self._route_keys.known.get(route_key)

    def is_paused(self, needs: Needs) -> bool:
        """Whether an operator keeps jobs with these needs waiting."""
        return any(pause.covers(needs) for pause in self._pauses)

    async def pauses_changed(self) -> None:
        """Take pauses that an operator has just changed at this replica."""
        self._pauses = await self._pause_store.all()
        self._hub.publish(PausesChanged(), WorkAvailable())

    def announce_drain(self, worker_id: int, *, drain: bool) -> None:
        """Have a worker told that an operator has drained or resumed it, by all calls it holds."""
        self.drain_changed(worker_id, drain=drain)
        self._hub.publish(
            DrainChanged(worker_id, drain), WorkerConcerned(worker_id), WorkAvailable()
        )

    def drain_changed(self, worker_id: int, *, drain: bool) -> None:
        """Note that an operator has drained or resumed a worker."""
        for member in self._members.values():
            if member.id == worker_id:
                member.registration = replace(member.registration, drain_requested=drain)
                member.checked_at = float("-inf")
        self._offers_at = float("-inf")

    async def ask_for_catalogues(self) -> None:
        """Have every worker told to report its catalogues again. Raises DATABASE_UNAVAILABLE."""
        await self._workers.want_catalogues(self._ttl)
        self.catalogues_wanted()
        self._hub.publish(CataloguesWanted())

    def catalogues_wanted(self) -> None:
        """Tell every worker that beats at this replica to report its catalogues again."""
        for member in self._members.values():
            member.registration = replace(member.registration, catalogue_wanted=True)
            self._hub.wake(WorkerConcerned(member.id))

    def catalogues_reported(self, name: str) -> None:
        """Note that a worker has reported its catalogues, here or elsewhere."""
        for member in self._members.values():
            if member.name == name:
                member.registration = replace(member.registration, catalogue_wanted=False)
        self._offers_at = float("-inf")

    def superseded(self, name: str, epoch: int) -> None:
        """Note that a name has reached an epoch, and tell the processes that had it before."""
        older = self._mark_superseded(name, epoch)
        self._offers_at = float("-inf")
        self._hub.wake(*(WorkerConcerned(member.id) for member in older))

    def doubt_everything(self) -> None:
        """Have everything about workers looked up anew, and their heartbeats look."""
        self._offers_at = float("-inf")
        for member in self._members.values():
            member.checked_at = float("-inf")
            self._hub.wake(WorkerConcerned(member.id))

    async def line_of(self, route_key: int | None) -> Line | None:
        """What jobs with this key compete with; None: nobody takes them now."""
        needs = await self.needs_of(route_key)
        if needs is None or self.is_paused(needs):
            return None
        offers = await self._live_offers()
        worked_out_for = (offers, len(self._route_keys.known), self._pauses)
        if self._lines_for != worked_out_for:
            self._lines_for, self._lines = worked_out_for, {}
        if needs not in self._lines:
            able = [live.offer for live in offers if live.offer.serves(needs)]
            kinds = set(able)
            keys = frozenset(
                key
                for key, others in self._route_keys.known.items()
                if any(offer.serves(others) for offer in kinds) and not self.is_paused(others)
            )
            self._lines[needs] = Line(keys, len(able)) if able else None
        return self._lines[needs]

    async def missing(self, needs: Needs) -> list[str]:
        """What of ``needs`` no live worker offers, in words; of the worker that lacks least.

        With what may have been meant, where no worker for the job's backend offers the name.
        """
        lacks = [live.offer.missing(needs) for live in await self._live_offers()]
        if not lacks:
            return ["any worker"]
        names = self._names.get(needs.backend_label, OfferedNames())
        fewest = min(lacks, key=len)
        return names.in_words(fewest)

    async def can_run(self, needs: Needs) -> bool:
        """Whether some live worker can run such a job."""
        return any(live.offer.serves(needs) for live in await self._live_offers())

    async def able_workers(self, needs: Needs) -> list[str]:
        """Names of the live workers that can run such a job."""
        return sorted(
            {live.worker for live in await self._live_offers() if live.offer.serves(needs)}
        )

    async def signatures_for(self, backend_label: str) -> list[BackendCatalogue] | None:
        """What the node classes of live ComfyUIs serving this label take and give, each once.

        The messages hold ``node_signatures`` and ``choice_lists`` only, and are shared: read them,
        do not change them. ComfyUIs whose workers say nothing of their nodes are left out; None:
        there is no other. Raises RefusedError: DATABASE_UNAVAILABLE.
        """
        digests = {
            live.signatures_digest
            for live in await self._live_offers()
            if live.signatures_digest is not None and backend_label in live.offer.backend_labels
        }
        return await self._signatures.get(sorted(digests)) or None

    async def offered_names(self) -> Mapping[str, OfferedNames]:
        """The names that live workers offer, by backend label; from memory, like all of this."""
        await self._live_offers()
        return self._names

    async def _live_offers(self) -> list[LiveOffer]:
        stale = time.monotonic() - self._offers_at >= _OFFERS_FRESH
        if stale or self._offers_lock.locked():
            async with self._offers_lock:  # who comes while they are looked up waits for them
                if time.monotonic() - self._offers_at >= _OFFERS_FRESH:
                    await self._look_up_offers()
        return self._offers

    async def _look_up_offers(self) -> None:
        self._offers_at = time.monotonic()  # before they are read: a report meanwhile resets it
        try:
            offers = await self._workers.live_offers(self._ttl)
        except RefusedError:
            self._offers_at = float("-inf")
            raise
        if offers != self._offers:
            self._offers = offers
            self._names = by_backend_label(live.offer for live in offers)

    async def _register(self, name: str, instance_id: UUID) -> Registration:
        try:
            registration = await self._workers.register(name, instance_id)
        except ValueError as error:
            raise invalid_fields([Violation("worker.instance_id", str(error))]) from error
        older = self._mark_superseded(name, registration.epoch)
        await self._take_over(name, registration.epoch)
        # Told only now, so that they hear of the leases they have lost as well.
        self._hub.wake(*(WorkerConcerned(member.id) for member in older))
        self._hub.publish(WorkerRegistered(name, registration.epoch), WorkAvailable())
        _log.info("worker registered", worker=name, epoch=registration.epoch)
        return registration

    def _mark_superseded(self, name: str, epoch: int) -> list[Member]:
        """Note that a name has reached an epoch; the processes that had it before."""
        newest = self._note_epoch(name, epoch)
        older = [
            member
            for member in self._members.values()
            if member.name == name and member.registration.epoch < newest
        ]
        for member in older:
            member.registration = replace(member.registration, superseded=True)
        return older

    def _note_epoch(self, name: str, epoch: int) -> int:
        """Note an epoch that a name has reached; the highest known."""
        newest = self._epochs[name] = max(self._epochs.get(name, 0), epoch)
        return newest

    async def _take_over(self, name: str, epoch: int) -> None:
        """Offer what an older process left to whoever drives its ComfyUIs: its successor."""
        left = await self._workers.predecessor_leases(name, epoch)
        await asyncio.gather(
            *(self._endings.end(_superseded(name, LeaseKey(*lease), self._ttl)) for lease in left)
        )
        self._hub.publish(*(JobChanged(job_id) for job_id, _ in left))


def _superseded(name: str, lease: LeaseKey, adopt_for: timedelta) -> Ending:
    return Ending(
        lease=lease,
        outcome="superseded",
        reported_by=None,
        retry=True,
        charge=True,
        delay=timedelta(),
        adopt_for=adopt_for,
        error=error_of(
            job_error_pb2.ERROR_CODE_WORKER_LOST,
            technical_details=f"worker {name} was restarted",
        ),
    )
