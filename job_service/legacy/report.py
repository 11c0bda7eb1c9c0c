"""What an import found, did and proved: as text for people, as JSON for programs.

What is said of single rows goes by way of a temporary file, so that a report of a million rows
takes no memory.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

from job_service.legacy.inspection import Found

VERSION: Final = 1
#: Rows of each kind that are printed when a file has them all.
_PRINTED: Final = 20
_LONGEST_VALUE: Final = 60

_PROVED: Final = "verified: every former row and field is accounted for"
_ACHIEVED: Final[Mapping[str, str]] = {
    "import": _PROVED,
    "cutover": _PROVED,
    "undo": "undone: all is as it was before the import, but for rows that are listed",
    "drop legacy": "dropped: the dump has every row",
}


class RowList:
    """What is said of single rows, on disk."""

    def __init__(self) -> None:
        self._file: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - as long as the report
        self.counts: dict[str, int] = {"combined": 0, "adjusted": 0}
        #: The first lines of each kind.
        self.first: list[str] = []

    def add(
        self,
        kind: str,
        table: str,
        source_id: int,
        job_id: int | None,
        fields: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """List a row."""
        line = {
            "kind": kind,
            "table": table,
            "id": source_id,
            "job_id": job_id,
            "fields": list(fields),
        }
        self.add_lines([(kind, json.dumps(line, ensure_ascii=False))])

    def add_lines(self, lines: Sequence[tuple[str, str]]) -> None:
        """List rows, of each its kind and what is said of it, as JSON."""
        more = Counter(kind for kind, _ in lines)
        for kind in more:
            missing = max(_PRINTED - self.counts.get(kind, 0), 0)
            self.first += islice((line for of, line in lines if of == kind), missing)
            self.counts[kind] = self.counts.get(kind, 0) + more[kind]
        self._file.writelines(f"{line}\n" for _, line in lines)

    def close(self) -> None:
        """Give up the file."""
        self._file.close()

    def lines(self) -> Iterator[str]:
        """Each row as JSON, without the end of its line."""
        self._file.seek(0)
        for line in self._file:
            yield line.rstrip("\n")


@dataclass(slots=True)
class Report:
    """The report as it grows. See docs/migrating.md for what its fields mean."""

    mode: str
    rows: RowList
    action: str = "import"
    dry_run: bool = False
    found: dict[str, Any] = field(default_factory=dict)
    plan: list[str] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    checksums: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, int] | None = None
    phase: str = "importing"
    verified: bool = False
    problems: list[str] = field(default_factory=list)

    def describe(self, found: Found, remarks: Sequence[str]) -> None:
        """Take down what was found."""
        self.found = {
            "state": found.state,
            "schema": found.schema,
            "tables": {
                table.name: {
                    "rows": table.rows,
                    "ids": table.ids,
                    "id_type": table.columns["id"],
                    "max_id": table.max_id,
                    "next_id": table.next_id,
                    "columns": dict(table.columns),
                    "missing_columns": found.missing_columns(table),
                    "extra_columns": table.extra_columns,
                }
                for table in found.tables.values()
            },
            "references": [
                {
                    "table": reference.table,
                    "constraint": reference.constraint,
                    "definition": reference.definition,
                }
                for reference in found.references
            ],
            "remarks": list(remarks),
        }

    def write_json(self, path: Path) -> None:
        """Write all of it; the rows one to a line."""
        head = {
            "version": VERSION,
            "mode": self.mode,
            "action": self.action,
            "dry_run": self.dry_run,
            "found": self.found,
            "plan": self.plan,
            "counts": self.counts,
            "checksums": self.checksums,
            "listed": self.rows.counts,
            "files": self.files,
            "phase": self.phase,
            "verified": self.verified,
            "problems": self.problems,
        }
        with path.open("w", encoding="utf-8") as file:
            file.write(json.dumps(head, ensure_ascii=False, indent=1).removesuffix("\n}"))
            file.write(',\n "rows": [')
            lines = self.rows.lines()
            file.writelines(f"\n  {line}" for line in islice(lines, 1))
            file.writelines(f",\n  {line}" for line in lines)
            file.write("\n ]\n}\n")

    def print_found(self, say: Callable[[str], None]) -> None:
        """Say what was found and what is going to be done."""
        for line in _found_lines(self.found):
            say(line)
        say("What is going to be done:" if not self.dry_run else "What would be done:")
        for line in self.plan:
            say(f"  - {line}")

    def print_rest(self, say: Callable[[str], None], *, all_rows: bool) -> None:
        """Say what was done and what it proves; of the rows all, or the first of each kind."""
        for table, counted in self.counts.items():
            parts = ", ".join(f"{value:,} {name}" for name, value in counted.items())
            say(f"{table}: {parts}")
        if self.files is not None:
            say("files: " + ", ".join(f"{n:,} {what}" for what, n in self.files.items()))
        self._print_checksums(say)
        self._print_rows(say, all_rows=all_rows)
        for problem in self.problems:
            say(f"PROBLEM: {problem}")
        if self.verified:
            say(_ACHIEVED[self.action])

    def _print_checksums(self, say: Callable[[str], None]) -> None:
        bad = [one for one in self.checksums if one["before"] != one["after"]]
        if self.checksums and not bad:
            say(f"checksums: all {len(self.checksums)} of the former fields agree")
        for one in bad:
            say(
                f"checksum of {one['table']}.{one['field']} differs: "
                f"{one['before']} before, {one['after']} after"
            )

    def _print_rows(self, say: Callable[[str], None], *, all_rows: bool) -> None:
        listed = {kind: n for kind, n in self.rows.counts.items() if n}
        if not listed:
            return
        say("rows: " + ", ".join(f"{n:,} {kind}" for kind, n in listed.items()))
        for line in self.rows.lines() if all_rows else self.rows.first:
            say(_row_line(json.loads(line)))
        for kind, n in listed.items():
            if not all_rows and n > _PRINTED:
                say(f"  … and {n - _PRINTED:,} more {kind}: the JSON report lists them all")


def _row_line(row: Mapping[str, Any]) -> str:
    became = f" → job {row['job_id']}" if row["job_id"] is not None else ""
    fields = "; ".join(
        f"{one['field']} {one['why']}: {_short(one['old'])}" for one in row["fields"]
    )
    return f"  {row['kind']} {row['table']} {row['id']}{became}{': ' + fields if fields else ''}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _found_lines(found: Mapping[str, Any]) -> Iterator[str]:
    if not found:
        return
    yield f"Found: state {found['state']}, in schema {found['schema']}"
    for name, table in found["tables"].items():
        yield (
            f"  {name}: {table['rows']:,} rows; ids {table['id_type']}, {table['ids']}, "
            f"highest {table['max_id']}, next {table['next_id']}"
        )
        if table["missing_columns"]:
            yield f"    without {', '.join(table['missing_columns'])}"
        if table["extra_columns"]:
            yield f"    with columns nobody knows: {', '.join(table['extra_columns'])}"
        json_columns = [column for column, type_ in table["columns"].items() if type_ == "json"]
        if json_columns:
            yield f"    json, not jsonb: {', '.join(json_columns)}"
    for reference in found["references"]:
        yield f"  {reference['table']} refers to it: {reference['definition']}"
    for remark in found["remarks"]:
        yield f"  {remark}"
