"""Statements on workers: who has a name, what its ComfyUIs offer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from job_service.jobs.node_signatures import PackedSignatures
from job_service.jobs.routing import Offer
from job_service.store.database import Database, as_json, statement

# The instance seen last for the first time gets the highest epoch and with it the name. An
# operator's drain outlives the process it was asked of. A name whose rows have been removed never
# gets an epoch again that it had, for replicas remember those: no epoch is greater than its row's
# id, and the row with the greatest id stays.
_REGISTER: Final = statement("""
WITH latest AS (
    SELECT epoch, drain_requested FROM workers WHERE name = :name ORDER BY epoch DESC LIMIT 1
)
INSERT INTO workers (name, instance_id, epoch, drain_requested)
SELECT :name, :instance_id, coalesce(max(epoch), (SELECT max(id) FROM workers), 0) + 1,
    coalesce(bool_or(drain_requested), false)
FROM latest
ON CONFLICT DO NOTHING
""")

_FIND: Final = statement("""
SELECT id, epoch, drain_requested, draining, catalogue_wanted,
    epoch < (SELECT max(epoch) FROM workers AS other WHERE other.name = workers.name) AS superseded
FROM workers WHERE instance_id = :instance_id AND name = :name
""")

_INSTANCE_KNOWN: Final = statement("SELECT name FROM workers WHERE instance_id = :instance_id")

_PREDECESSOR_LEASES: Final = statement("""
SELECT job.id, job.lease_token
FROM workers AS worker JOIN generation_jobs AS job
    ON job.worker_id = worker.id AND job.status = 'running'
WHERE worker.name = :name AND worker.epoch < :epoch AND NOT worker.draining
ORDER BY job.id
""")

_DESCRIBE: Final = statement("""
UPDATE workers SET
    version = :version, backend_labels = :backend_labels, job_types = :job_types,
    backends = CAST(:backends AS jsonb), last_beat_at = now()
WHERE id = :id
""")

# Signatures are locked in the order of their digests, also those that are known: see the sweep in
# `job_service.store.node_signatures`.
_REPORT_CATALOGUE: Final = statement("""
WITH signatures AS (
    INSERT INTO node_signatures (digest, content)
    SELECT digest, content
    FROM unnest(CAST(:digests AS bytea[]), CAST(:contents AS bytea[])) AS s (digest, content)
    ORDER BY digest
    ON CONFLICT (digest) DO UPDATE SET reported_at = now()
), no_longer_wanted AS (
    UPDATE workers SET catalogue_wanted = false WHERE name = :worker AND catalogue_wanted
)
INSERT INTO backend_catalogues (worker, backend, digest, content, signatures_digest)
SELECT :worker, backend, digest, content, decode(signatures_digest, 'hex')
FROM jsonb_to_recordset(CAST(:catalogues AS jsonb)) AS c (
    backend text, digest text, content jsonb, signatures_digest text
)
ORDER BY backend
ON CONFLICT (worker, backend)
DO UPDATE SET digest = excluded.digest, content = excluded.content,
    signatures_digest = excluded.signatures_digest, reported_at = now()
""")

_CATALOGUES: Final = statement(
    "SELECT backend, digest, content FROM backend_catalogues WHERE worker = :worker"
)

# A worker that comes back after that reports again: its new process finds none.
_FORGET_CATALOGUES: Final = statement("""
DELETE FROM backend_catalogues AS catalogue
WHERE reported_at < now() - CAST(:retention AS interval) AND NOT EXISTS (
    SELECT FROM workers AS worker
    WHERE worker.name = catalogue.worker
        AND worker.last_beat_at > now() - CAST(:retention AS interval)
)
""")

# What an operator has drained stays so when it comes back, however late.
_REMOVE_GONE: Final = statement("""
WITH gone AS MATERIALIZED (
    SELECT id FROM workers AS worker
    WHERE last_beat_at < now() - CAST(:retention AS interval)
        AND id < (SELECT max(id) FROM workers)
        AND (NOT drain_requested OR EXISTS (
            SELECT FROM workers AS newer
            WHERE newer.name = worker.name AND newer.epoch > worker.epoch
        ))
        AND NOT EXISTS (SELECT FROM generation_jobs AS job WHERE job.worker_id = worker.id)
    ORDER BY id LIMIT :most
    FOR UPDATE SKIP LOCKED
)
DELETE FROM workers AS worker USING gone WHERE worker.id = gone.id
""")

_OFFERS: Final = statement("""
SELECT worker.name AS worker, worker.backend_labels, worker.job_types, catalogue.content,
    catalogue.signatures_digest
FROM workers AS worker
JOIN backend_catalogues AS catalogue ON catalogue.worker = worker.name
WHERE worker.last_beat_at > now() - :ttl
    AND NOT worker.draining AND NOT worker.drain_requested
    AND worker.backends @> jsonb_build_array(
        jsonb_build_object('name', catalogue.backend, 'catalogue_digest', catalogue.digest)
    )
""")

_WANT_CATALOGUES: Final = statement(
    "UPDATE workers SET catalogue_wanted = true WHERE last_beat_at > now() - :ttl"
)

_INSTALLATION: Final = statement("SELECT id FROM installation")


@dataclass(frozen=True, slots=True)
class Registration:
    """A worker process as the table knows it."""

    id: int
    epoch: int
    superseded: bool
    drain_requested: bool
    catalogue_wanted: bool


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What one ComfyUI offers, as reported."""

    backend: str
    digest: str
    content: Mapping[str, Any]

    def offer(self, job_types: Sequence[str], backend_labels: Sequence[str]) -> Offer:
        """What jobs can run there."""
        return Offer(
            job_types=frozenset(job_types),
            backend_labels=frozenset(backend_labels),
            checkpoints=frozenset(self.content.get("checkpoints", ())),
            loras=frozenset(self.content.get("loras", ())),
            node_classes=frozenset(self.content.get("node_classes", ())),
            samplers=frozenset(self.content.get("samplers", ())),
            schedulers=frozenset(self.content.get("schedulers", ())),
        )


@dataclass(frozen=True, slots=True)
class LiveOffer:
    """What a ComfyUI of a live worker offers.

    ``signatures_digest``: of what its node classes take and give; None: it has not said.
    """

    worker: str
    offer: Offer
    signatures_digest: bytes | None


class WorkerStore:
    """Workers in the table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def installation(self) -> UUID:
        """The namespace of this installation's prompt ids."""
        row = await self._database.row(_INSTALLATION)
        assert row is not None, "the migration inserts the row"
        installation: UUID = row.id
        return installation

    async def find(self, name: str, instance_id: UUID) -> Registration | None:
        """A worker process that has been seen before; None: it has not, under this name."""
        row = await self._database.row(_FIND, {"name": name, "instance_id": instance_id})
        if row is None:
            return None
        return Registration(
            row.id, row.epoch, row.superseded, row.drain_requested, row.catalogue_wanted
        )

    async def register(self, name: str, instance_id: UUID) -> Registration:
        """Give the name to a process that has not been seen before.

        Raises ValueError when the instance id is used under another name.
        """
        while True:
            await self._database.run(_REGISTER, {"name": name, "instance_id": instance_id})
            registration = await self.find(name, instance_id)
            if registration is not None:
                return registration
            other = await self._database.row(_INSTANCE_KNOWN, {"instance_id": instance_id})
            if other is not None:
                raise ValueError(f"instance_id belongs to worker {other.name!r}")
            # Another instance took the same epoch at the same moment: take the next one.

    async def predecessor_leases(self, name: str, epoch: int) -> list[tuple[int, UUID]]:
        """Leases of older processes under the name that are not draining: (job id, token)."""
        rows = await self._database.rows(_PREDECESSOR_LEASES, {"name": name, "epoch": epoch})
        return [(row.id, row.lease_token) for row in rows]

    async def describe(
        self,
        worker_id: int,
        *,
        version: str,
        backend_labels: Sequence[str],
        job_types: Sequence[str],
        backends: Sequence[Mapping[str, Any]],
    ) -> None:
        """Write down what a worker says it is."""
        await self._database.run(
            _DESCRIBE,
            {
                "id": worker_id,
                "version": version,
                "backend_labels": list(backend_labels),
                "job_types": list(job_types),
                "backends": as_json(list(backends)),
            },
        )

    async def report_catalogues(
        self,
        worker: str,
        catalogues: Sequence[Catalogue],
        signatures: Sequence[PackedSignatures | None],
    ) -> None:
        """Replace what the named ComfyUIs of a worker were known to offer.

        ``signatures``: for each of the catalogues what its node classes take and give.
        """
        rows = [
            {
                "backend": one.backend,
                "digest": one.digest,
                "content": one.content,
                "signatures_digest": packed.digest.hex() if packed else None,
            }
            for one, packed in zip(catalogues, signatures, strict=True)
        ]
        distinct = {packed.digest: packed.content for packed in signatures if packed}
        await self._database.run(
            _REPORT_CATALOGUE,
            {
                "worker": worker,
                "catalogues": as_json(rows),
                "digests": list(distinct),
                "contents": list(distinct.values()),
            },
        )

    async def want_catalogues(self, ttl: timedelta) -> None:
        """Have every worker heard of within ``ttl`` asked for its catalogues, until they come."""
        await self._database.run(_WANT_CATALOGUES, {"ttl": ttl})

    async def catalogues(self, worker: str) -> dict[str, Catalogue]:
        """What each ComfyUI of a worker offers, by its configured name."""
        rows = await self._database.rows(_CATALOGUES, {"worker": worker})
        return {row.backend: Catalogue(row.backend, row.digest, row.content) for row in rows}

    async def forget_catalogues(self, retention: timedelta) -> None:
        """Remove what the ComfyUIs of workers offered that nobody has heard of for so long."""
        await self._database.run(_FORGET_CATALOGUES, {"retention": retention})

    async def remove_gone(self, retention: timedelta, most: int = 500) -> bool:
        """Remove processes that nobody has heard of for so long; whether there may be more.

        Those that have leases stay, and the last of a name that an operator has drained.
        """
        removed = await self._database.run(_REMOVE_GONE, {"retention": retention, "most": most})
        return removed == most

    async def live_offers(self, ttl: timedelta) -> list[LiveOffer]:
        """What every ComfyUI of every worker heard of within ``ttl`` offers."""
        rows = await self._database.rows(_OFFERS, {"ttl": ttl})
        return [
            LiveOffer(
                row.worker,
                Catalogue("", "", row.content).offer(row.job_types, row.backend_labels),
                row.signatures_digest,
            )
            for row in rows
        ]
