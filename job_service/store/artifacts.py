"""Statements on artifacts: the rows behind the objects in the artifact store."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import islice
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

from job_service.store.database import COMMITTED_SOON, Database, Row, as_json, statement
from job_service.store.joined import Joined
from job_service.store.lease_key import LeaseKey

# The row is written before the object, under the lease. An earlier upload of the same file is
# taken over: its object is overwritten. Of uploads of one file that gathered, the last counts.
# The job is locked, so that a call that was repeated does not announce anew what its first run is
# completing the job with.
#
# The job's completion brings the rows to the disk. If PostgreSQL crashes before, the worker is told
# that its lease has ended or that its files are not stored: the job runs again, and finds the
# pictures where ComfyUI has them.
_ANNOUNCE: Final = statement(f"""
WITH new AS MATERIALIZED (
    SELECT r.*, job.id, job.attempt
    FROM {COMMITTED_SOON}, jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (
        n integer, job_id bigint, lease_token uuid, role text, position integer,
        thumbnail_size integer, filename text, content_type text, size bigint, sha256 text,
        width integer, height integer, node_id text, duration_ms bigint
    )
    JOIN generation_jobs AS job ON job.id = r.job_id AND job.lease_token = r.lease_token
    ORDER BY job.id
    FOR SHARE OF job
), announced AS (
    INSERT INTO job_artifacts AS artifact (
        job_id, attempt, role, position, thumbnail_size, filename, content_type, size, sha256,
        width, height, node_id, duration_ms, object_key
    )
    SELECT DISTINCT ON (id, role, position, thumbnail_size)
        id, attempt, role, position, thumbnail_size, filename, content_type, size,
        decode(sha256, 'hex'), width, height, node_id, duration_ms,
        format('jobs/%s/%s/%s-%s', id, attempt, position, role)
            || CASE WHEN thumbnail_size > 0 THEN '-' || thumbnail_size ELSE '' END
    FROM new ORDER BY id, role, position, thumbnail_size, n DESC
    ON CONFLICT (job_id, attempt, role, position, thumbnail_size) DO UPDATE SET
        filename = excluded.filename, content_type = excluded.content_type, size = excluded.size,
        sha256 = excluded.sha256, width = excluded.width, height = excluded.height,
        node_id = excluded.node_id, duration_ms = excluded.duration_ms, stored_at = NULL
    RETURNING *
)
SELECT new.n, announced.* FROM announced
JOIN new USING (job_id, role, position, thumbnail_size)
""")

# Rows are locked in the order in which they are announced, so that calls about the same files, of
# which one announces and another has stored, do not deadlock.
_STORED: Final = statement(f"""
WITH given AS MATERIALIZED (
    SELECT r.* FROM {COMMITTED_SOON}, jsonb_to_recordset(CAST(:rows AS jsonb))
        AS r (n integer, artifact_id bigint, lease_token uuid)
), held AS MATERIALIZED (
    SELECT artifact.id, job.lease_token
    FROM (SELECT DISTINCT artifact_id, lease_token FROM given) AS one
    JOIN job_artifacts AS artifact ON artifact.id = one.artifact_id
    JOIN generation_jobs AS job
        ON job.id = artifact.job_id AND job.lease_token = one.lease_token
    ORDER BY artifact.job_id, artifact.role, artifact.position, artifact.thumbnail_size
    FOR NO KEY UPDATE OF artifact
), stored AS (
    UPDATE job_artifacts AS artifact SET stored_at = now()
    FROM held WHERE artifact.id = held.id
    RETURNING artifact.*, held.lease_token
)
SELECT given.n, stored.* FROM given JOIN stored
    ON stored.id = given.artifact_id AND stored.lease_token = given.lease_token
""")

_OF_LEASE: Final = statement("""
SELECT artifact.* FROM job_attempts AS attempt
JOIN job_artifacts AS artifact
    ON artifact.job_id = attempt.job_id AND artifact.attempt = attempt.attempt
WHERE attempt.job_id = :job_id AND attempt.lease_token = :lease_token
    AND artifact.stored_at IS NOT NULL
ORDER BY artifact.id
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

_KNOWN: Final = statement("SELECT id FROM job_artifacts WHERE id = ANY(:ids)")

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
    """One row of ``job_artifacts``.

    Without size and sha256 the file is at its external location, and not in the artifact store.
    """

    id: int
    job_id: int
    attempt: int
    role: str
    position: int
    thumbnail_size: int
    filename: str
    content_type: str
    size: int | None
    sha256: bytes | None
    width: int
    height: int
    node_id: str
    object_key: str
    created_at: datetime
    stored_at: datetime | None
    duration_ms: int | None
    external_location: str | None


#: Calls that share a statement; each is about 64 files at the most.
_MOST_CALLS: Final = 64
_COLUMNS: Final = tuple(field.name for field in fields(ArtifactRow))
_columns = attrgetter(*_COLUMNS)
_NEW: Final = tuple(field.name for field in fields(NewArtifact))
_new = attrgetter(*_NEW)


class ArtifactTable:
    """Artifacts in the table. Uploads that arrive together share a statement."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._announce = Joined(self._announce_joined, most=_MOST_CALLS)
        self._stored = Joined(self._stored_joined, most=_MOST_CALLS)

    async def announce(
        self, lease: LeaseKey, artifacts: Sequence[NewArtifact]
    ) -> list[ArtifactRow] | None:
        """Write down that files are being uploaded; None: the lease has ended."""
        return await self._announce((lease, artifacts))

    async def stored(
        self, lease: LeaseKey, artifact_ids: Sequence[int]
    ) -> list[ArtifactRow] | None:
        """Write down that files are completely stored; None: the lease has ended."""
        return await self._stored((lease, artifact_ids))

    async def _announce_joined(
        self, calls: Sequence[tuple[LeaseKey, Sequence[NewArtifact]]]
    ) -> Sequence[list[ArtifactRow] | Exception | None]:
        new = [
            dict(zip(_NEW, _new(artifact), strict=True))
            | {"sha256": artifact.sha256.hex()}
            | {"job_id": lease.job_id, "lease_token": lease.token}
            for lease, artifacts in calls
            for artifact in artifacts
        ]
        return await self._numbered(_ANNOUNCE, new, [len(artifacts) for _, artifacts in calls])

    async def _stored_joined(
        self, calls: Sequence[tuple[LeaseKey, Sequence[int]]]
    ) -> Sequence[list[ArtifactRow] | Exception | None]:
        given = [
            {"artifact_id": artifact_id, "lease_token": lease.token}
            for lease, artifact_ids in calls
            for artifact_id in artifact_ids
        ]
        return await self._numbered(_STORED, given, [len(ids) for _, ids in calls])

    async def _numbered(
        self, query: bytes, given: Sequence[dict[str, Any]], counts: Sequence[int]
    ) -> list[list[ArtifactRow] | Exception | None]:
        """The rows answered to what was given, for each call so many; None: not all of them."""
        rows = [{"n": n} | one for n, one in enumerate(given)]
        answered = await self._database.rows(query, {"rows": as_json(rows)})
        found = {row.n: _artifact(row) for row in answered}
        numbers = iter(range(len(given)))
        calls = [[found[n] for n in islice(numbers, count) if n in found] for count in counts]
        return [
            call if len(call) == count else None for call, count in zip(calls, counts, strict=True)
        ]

    async def of_lease(self, lease: LeaseKey) -> list[ArtifactRow]:
        """What an attempt has stored, also after its lease has ended."""
        rows = await self._database.rows(
            _OF_LEASE, {"job_id": lease.job_id, "lease_token": lease.token}
        )
        return [_artifact(row) for row in rows]

    async def get(
        self, artifact_id: int, thumbnail_size: int, user_id: UUID | None
    ) -> ArtifactRow | None:
        """A stored artifact, or its thumbnail of the given size (0: itself)."""
        row = await self._database.row(
            _GET, {"id": artifact_id, "thumbnail_size": thumbnail_size, "user_id": user_id}
        )
        return _artifact(row) if row is not None else None

    async def known(self, ids: Sequence[int]) -> set[int]:
        """Which of these artifacts still have a row."""
        return {row.id for row in await self._database.rows(_KNOWN, {"ids": list(ids)})}

    async def sweepable(self, most: int) -> list[tuple[int, str]]:
        """Artifacts nobody will read: (id, object key)."""
        rows = await self._database.rows(_SWEEPABLE, {"most": most})
        return [(row.id, row.object_key) for row in rows]

    async def forget(self, ids: Sequence[int]) -> None:
        """Remove the rows of artifacts whose objects are gone."""
        await self._database.run(_FORGET, {"ids": list(ids)})


def _artifact(row: Row) -> ArtifactRow:
    return ArtifactRow(**dict(zip(_COLUMNS, _columns(row), strict=True)))
