"""Whether the report of a finished import agrees with what there was, and with itself."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tests.legacy_import import exact
from tests.legacy_import.importing import Outcome
from tests.legacy_import.old_content import JOBS, REQUESTS, OldContent, Row
from tests.legacy_import.reading import Reading

#: Former columns that are compared under another name: of the one they were merged with, or all of
#: a row's that nobody knows together.
_MERGED: Final = {
    "parameters": "params",
    "result_content_id": "content_id",
    **dict.fromkeys(("rating", "moderation", "favourite"), "unknown"),
}


def agrees(outcome: Outcome, content: OldContent, new: Reading) -> None:
    """Assert that it does. ``new``: what our service says."""
    mistakes = _mistakes(outcome, content, new)
    assert not mistakes, "\n".join(mistakes)


def _mistakes(outcome: Outcome, content: OldContent, new: Reading) -> list[str]:
    report = outcome.report
    if report is None:
        return ["there is no report"]
    tables: dict[str, Sequence[Row]] = {JOBS: content.jobs}
    if content.shape.has_requests:
        tables[REQUESTS] = content.requests
    return [
        *_counts(report, tables),
        *_checksums(report, content),
        *_listed(outcome),
        *_told(outcome, new),
    ]


def _counts(report: Mapping[str, Any], tables: Mapping[str, Sequence[Row]]) -> Iterator[str]:
    if not report["verified"] or report["problems"]:
        yield f"not verified: {report['problems']}"
    for table, rows in tables.items():
        counts = report["counts"][table]
        if (counts["before"], counts["after"]) != (len(rows), len(rows)):
            yield f"{table} had {len(rows)} rows, reported {counts}"
        if counts["imported"] + counts["combined"] != counts["after"]:
            yield f"{table}: the counts do not add up: {counts}"


def _checksums(report: Mapping[str, Any], content: OldContent) -> Iterator[str]:
    for checksum in report["checksums"]:
        if checksum["before"] != checksum["after"]:
            yield f"checksums differ: {checksum}"
    checked = {(one["table"], one["field"]) for one in report["checksums"]}
    # fields in which nothing was need not be listed
    expected = {
        (table, name)
        for table, rows in ((JOBS, content.jobs), (REQUESTS, content.requests))
        for row in rows
        for name, value in row.items()
        if value not in (None, "null", "{}", "[]", "")
    }
    for table, name in expected:
        if (table, _MERGED.get(name, name)) not in checked:
            yield f"no checksum of {table}.{name}"


def _listed(outcome: Outcome) -> Iterator[str]:
    assert outcome.report is not None
    for kind, number in outcome.report["listed"].items():
        if number != len(outcome.rows(kind)):
            yield f"{number} rows are said to be {kind}, and not as many listed"


def _told(outcome: Outcome, new: Reading) -> Iterator[str]:
    """All that was combined or kept is listed, and nothing else."""
    requests = {job.id: request_id for request_id, job in new.by_request.items()}
    listed = {(row["job_id"], row["id"]) for row in outcome.rows("combined")}
    for job_id, request_id in listed:
        if requests.get(job_id) != request_id:
            yield f"request {request_id} is said to be part of job {job_id}"
    adjusted = {
        (row["job_id"], field["field"].removeprefix("request."))
        for row in outcome.rows("adjusted")
        for field in row["fields"]
    }
    kept = {
        (job.id, key.removeprefix("request."))
        for job in new.jobs.values()
        for key in exact.read(job.params_json).get("legacy", {})
    }
    for job_id, field in kept - adjusted:
        yield f"that {field} of job {job_id} was adjusted is not listed"
    for job_id, field in adjusted - kept:
        yield f"{field} of job {job_id} is listed as adjusted, and not kept"
