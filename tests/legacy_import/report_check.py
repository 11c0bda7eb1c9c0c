"""Whether the report of a finished import agrees with what there was, and with itself."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.legacy_import.importing import Outcome
from tests.legacy_import.old_content import JOBS, REQUESTS, OldContent, Row


def report_mistakes(outcome: Outcome, content: OldContent) -> list[str]:
    """In words, where it does not."""
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
    expected = [(JOBS, name) for name in content.shape.job_columns if content.jobs]
    expected += [(REQUESTS, name) for name in content.shape.request_columns if content.requests]
    for table, name in expected:
        if (table, name) not in checked:
            yield f"no checksum of {table}.{name}"


def _listed(outcome: Outcome) -> Iterator[str]:
    assert outcome.report is not None
    for kind, number in outcome.report["listed"].items():
        if number != len(outcome.rows(kind)):
            yield f"{number} rows are said to be {kind}, and not as many listed"
