"""Statements on artifacts: the rows behind the objects in the artifact store."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row

from job_service.store.database import Database, as_json, statement
from job_service.store.leases import LeaseKey

# The row is written before the object, under the lease. An earlier upload of the same file is
# taken over: its object is overwritten.
_ANNOUNCE: Final = statement("""
INSERT INTO job_artifacts (
    job_id, attempt, role, position, thumbnail_size, filename, content_type, size, sha256, width,
    height, node_id, duration_ms, object_key
)
SELECT job.id, job.attempt, new.role, new.position, new.thumbnail_size, new.filename,
    new.content_type, new.size, decode(new.sha256, 'hex'), new.width, new.height, new.node_id,
    new.duration_ms,
    format('jobs/%s/%s/%s-%s', job.id, job.attempt, new.position, new.role)
        || CASE WHEN new.thumbnail_size > 0 THEN '-' || new.thumbnail_size ELSE '' END
FROM jsonb_to_record(CAST(:artifact AS jsonb)) AS new (
    job_id bigint, lease_token uuid, role text, position integer, thumbnail_size integer,
    filename text, content_type text, size bigint, sha256 text, width integer, height integer,
    node_id text, duration_ms bigint
)
JOIN generation_jobs AS job ON job.id = new.job_id AND job.lease_token = new.lease_token
ON CONFLICT (job_id, attempt, role, position, thumbnail_size) DO UPDATE SET
    filename = excluded.filename, content_type = excluded.content_type, size = excluded.size,
    sha256 = excluded.sha256, width = excluded.width, height = excluded.height,
    node_id = excluded.node_id, duration_ms = excluded.duration_ms, stored_at = NULL
RETURNING *
""")

_STORED: Final = statement("""
UPDATE job_artifacts AS artifact SET stored_at = now()
FROM generation_jobs AS job
WHERE artifact.id = :id AND job.id = artifact.job_id AND job.lease_token = :lease_token
RETURNING artifact.*
""")

_GET: Final = statement("""
SELECT found.* FROM job_artifacts AS wanted
JOIN generation_jobs AS job ON job.id = wanted.job_id
JOIN job_artifacts AS found ON found.job_id = wanted.job_id AND found.attempt = wanted.attempt
WHERE wanted.id = :id AND found.stored_at IS NOT NULL
    AND CASE WHEN CAST(:thumbnail_size AS integer) = 0 THEN found.id = wanted.id
        ELSE found.role = 'thumbnail' AND found.position = wanted.position
            AND found.thumbnail_size = :thumbnail_size END
    AND (CAST(:user_id AS uuid) IS NULL OR job.user_id = :user_id)
""")

# Only what the completed attempt made: other attempts' files are on their way out.
_OF_JOBS: Final = statement("""
SELECT artifact.* FROM generation_jobs AS job JOIN job_artifacts AS artifact
    ON artifact.job_id = job.id AND artifact.attempt = job.attempt
WHERE job.id = ANY(:job_ids) AND job.status = 'completed' AND artifact.stored_at IS NOT NULL
ORDER BY artifact.job_id, artifact.position, artifact.thumbnail_size
""")

# Files whose job is gone, and files of attempts that have ended without completing the job.
_SWEEPABLE: Final = statement("""
(SELECT id, object_key FROM job_artifacts WHERE job_id IS NULL ORDER BY id LIMIT :most)
UNION ALL
(SELECT artifact.id, artifact.object_key
FROM job_attempts AS attempt JOIN job_artifacts AS artifact
    ON artifact.job_id = attempt.job_id AND artifact.attempt = attempt.attempt
WHERE attempt.ended_at > now() - interval '7 days' AND attempt.outcome <> 'completed'
ORDER BY artifact.id LIMIT :most)
""")

_KNOWN: Final = statement("SELECT id FROM job_artifacts WHERE id = :id")

_FORGET: Final = statement("DELETE FROM job_artifacts WHERE id = ANY(:ids)")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewArtifact:
    """A file that a worker is about to upload."""

    role: str
    position: int
    thumbnail_size: int
    filename: str
    content_type: str
    size: int
    sha256: bytes
    width: int
    height: int
    node_id: str
    duration_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRow:
    """One row of ``job_artifacts``."""

    id: int
    job_id: int
    attempt: int
    role: str
    position: int
    thumbnail_size: int
    filename: str
    content_type: str
    size: int
    sha256: bytes
    width: int
    height: int
    node_id: str
    object_key: str
    created_at: datetime
    stored_at: datetime | None
    duration_ms: int | None


class ArtifactTable:
    """Artifacts in the table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def announce(self, lease: LeaseKey, artifact: NewArtifact) -> ArtifactRow | None:
        """Write down that a file is being uploaded; None: the lease has ended."""
        new = asdict(artifact) | {
            "sha256": artifact.sha256.hex(),
            "job_id": lease.job_id,
            "lease_token": lease.token,
        }
        row = await self._database.row(_ANNOUNCE, {"artifact": as_json(new)})
        return _artifact(row) if row is not None else None

    async def stored(self, lease: LeaseKey, artifact_id: int) -> ArtifactRow | None:
        """Write down that a file is completely stored; None: the lease has ended."""
        row = await self._database.row(_STORED, {"id": artifact_id, "lease_token": lease.token})
        return _artifact(row) if row is not None else None

    async def get(
        self, artifact_id: int, thumbnail_size: int, user_id: UUID | None
    ) -> ArtifactRow | None:
        """A stored artifact, or its thumbnail of the given size (0: itself)."""
        row = await self._database.row(
            _GET, {"id": artifact_id, "thumbnail_size": thumbnail_size, "user_id": user_id}
        )
        return _artifact(row) if row is not None else None

    async def of_jobs(self, job_ids: Sequence[int]) -> dict[int, list[ArtifactRow]]:
        """What completed jobs made, each in order, thumbnails after their picture."""
        found: dict[int, list[ArtifactRow]] = {}
        if not job_ids:
            return found
        for row in await self._database.rows(_OF_JOBS, {"job_ids": list(job_ids)}):
            found.setdefault(row.job_id, []).append(_artifact(row))
        return found

    async def is_known(self, artifact_id: int) -> bool:
        """Whether the artifact still has a row."""
        return await self._database.row(_KNOWN, {"id": artifact_id}) is not None

    async def sweepable(self, most: int = 200) -> list[tuple[int, str]]:
        """Artifacts nobody will read: (id, object key)."""
        rows = await self._database.rows(_SWEEPABLE, {"most": most})
        return [(row.id, row.object_key) for row in rows]

    async def forget(self, ids: Sequence[int]) -> None:
        """Remove the rows of artifacts whose objects are gone."""
        await self._database.run(_FORGET, {"ids": list(ids)})


def _artifact(row: Row[Any]) -> ArtifactRow:
    return ArtifactRow(**row._mapping)  # noqa: SLF001  # documented accessor despite its name
