"""Statements on workers as operators see them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from job_service.store.database import Database, Row, statement

#: Jobs, last ended first, among which the checkpoint that an idle ComfyUI was given is looked for.
_RECENT: Final = 1000

# The process that has each name; older ones only while they drain and still hold leases.
#
# `loaded` is found in what ComfyUIs run and what ended lately, so that leasing a job need not write
# it down: a bounded number of rows, however long the history.
_LIST: Final = statement("""
WITH given AS MATERIALIZED (
    SELECT DISTINCT ON (backend) backend, checkpoint_model
    FROM (
        SELECT id, backend, checkpoint_model, leased_at FROM generation_jobs
        WHERE status = 'running'
        UNION ALL (
            SELECT id, backend, checkpoint_model, leased_at FROM generation_jobs
            WHERE completed_at IS NOT NULL ORDER BY completed_at DESC, id DESC LIMIT :recent
        )
    ) AS job
    WHERE backend IS NOT NULL
    ORDER BY backend, leased_at DESC, id DESC
)
SELECT worker.name, worker.instance_id, worker.epoch, worker.version, worker.last_beat_at,
    worker.last_beat_at > now() - :ttl AS live,
    worker.draining OR worker.drain_requested AS draining,
    worker.backends, worker.backend_labels, worker.job_types, worker.registered_at,
    ARRAY(
        SELECT job.id FROM generation_jobs AS job
        WHERE job.worker_id = worker.id AND job.status = 'running' ORDER BY job.id
    ) AS job_ids,
    (
        SELECT jsonb_object_agg(catalogue.backend, jsonb_build_object(
            'comfyui_version', catalogue.content ->> 'comfyui_version',
            'device', catalogue.content ->> 'device'
        ))
        FROM backend_catalogues AS catalogue WHERE catalogue.worker = worker.name
    ) AS servers,
    (
        SELECT jsonb_object_agg(given.backend, given.checkpoint_model)
        FROM given WHERE starts_with(given.backend, worker.name || '/')
    ) AS loaded
FROM workers AS worker
WHERE (CAST(:name AS text) IS NULL OR worker.name = :name)
    AND (:include_gone OR worker.last_beat_at > now() - :ttl)
    AND (
        worker.epoch = (SELECT max(epoch) FROM workers AS other WHERE other.name = worker.name)
        OR EXISTS (
            SELECT FROM generation_jobs AS job
            WHERE job.worker_id = worker.id AND job.status = 'running'
        )
    )
ORDER BY worker.name, worker.epoch DESC
""")

_SET_DRAIN: Final = statement("""
UPDATE workers SET drain_requested = :drain
WHERE name = :name AND epoch = (SELECT max(epoch) FROM workers WHERE name = :name)
RETURNING id
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """A worker process.

    ``servers``: version and device of its ComfyUIs, by configured name. ``loaded``: the checkpoint
    each was given last, by "worker name/backend name".
    """

    name: str
    instance_id: UUID
    epoch: int
    version: str
    last_beat_at: datetime
    live: bool
    draining: bool
    backends: Sequence[dict[str, Any]]
    backend_labels: Sequence[str]
    job_types: Sequence[str]
    registered_at: datetime
    job_ids: Sequence[int]
    servers: dict[str, dict[str, str | None]] | None
    loaded: dict[str, str | None] | None


class FleetRows:
    """The table of workers, for operators."""

    def __init__(self, database: Database, ttl: timedelta) -> None:
        self._database = database
        self._ttl = ttl

    async def workers(self, *, include_gone: bool, name: str | None = None) -> list[WorkerRow]:
        """Every worker heard of within a lease's lifetime, or ever; by name."""
        rows = await self._database.rows(
            _LIST,
            {"ttl": self._ttl, "include_gone": include_gone, "name": name, "recent": _RECENT},
        )
        return [_worker(row) for row in rows]

    async def set_drain(self, name: str, *, drain: bool) -> int | None:
        """Ask a worker to take no more jobs, or to take jobs again; its id, None: no such."""
        row = await self._database.row(_SET_DRAIN, {"name": name, "drain": drain})
        return None if row is None else row.id


def _worker(row: Row) -> WorkerRow:
    return WorkerRow(**row._asdict())  # documented accessor despite its name
