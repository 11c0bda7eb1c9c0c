"""What became of an attempt, and of the same report before: common to all ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from generation_jobs.v1 import job_error_pb2
from google.protobuf import json_format

from job_service.store.database import Database, Row, as_json, statement
from job_service.store.tally import AttemptEnd, Tally

# What the same report has recorded before. A statement of its own, because the one that found the
# lease ended cannot see who ended it while it waited for the row.
_RECORDED: Final = statement("""
SELECT report.n, attempt.status_after AS status
FROM jsonb_to_recordset(CAST(:rows AS jsonb))
    AS report (n integer, job_id bigint, lease_token uuid, reported_by text)
JOIN job_attempts AS attempt USING (job_id, lease_token, reported_by)
""")

#: In place of a state: see ``Ended``.
UNSTORED: Final = "unstored"


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of the job: its state, and whether this call changed it.

    ``status`` None: the lease had ended before, otherwise. UNSTORED: a completion names an
    artifact that is not stored, and changed nothing. ``deleting``: it is to be deleted now.
    """

    status: str | None
    changed: bool
    deleting: bool


class Outcomes:
    """Makes out what statements that end leases have done, and counts it."""

    def __init__(self, database: Database, tally: Tally) -> None:
        self._database = database
        self._tally = tally

    async def ended(self, rows: Sequence[Mapping[str, Any]], answers: Sequence[Row]) -> list[Ended]:
        """What became of each report; those without an answer may repeat an earlier one."""
        ended = {
            row.n: Ended(row.status, changed=row.status != UNSTORED, deleting=row.deleting)
            for row in answers
        }
        for row in answers:
            if row.status != UNSTORED:
                self._count(row)
        others = [
            {key: row[key] for key in ("n", "job_id", "lease_token", "reported_by")}
            for row in rows
            if row["n"] not in ended
        ]
        if others:
            for row in await self._database.rows(_RECORDED, {"rows": as_json(others)}):
                ended[row.n] = Ended(row.status, changed=False, deleting=False)
        lost = Ended(None, changed=False, deleting=False)
        return [ended.get(n, lost) for n in range(len(rows))]

    def _count(self, row: Row) -> None:
        error_code = row.error_code or ""
        self._tally.attempt_ended(
            AttemptEnd(
                outcome="cancelled" if row.status == "cancelled" else row.outcome,
                status=row.status,
                error_code=error_code,
                checkpoint=row.checkpoint_model or "",
                leased=row.leased.total_seconds(),
                ran=None if row.ran is None else row.ran.total_seconds(),
            )
        )
        if row.status != "pending":
            failed = row.status == "failed"
            self._tally.jobs_ended(row.status, error_code if failed else "")


def error_as_json(error: job_error_pb2.JobError) -> dict[str, Any]:
    """An error as it is stored: protobuf JSON with the contract's field names."""
    stored: dict[str, Any] = json_format.MessageToDict(error, preserving_proto_field_name=True)
    return stored
