"""What every import does, wherever its rows come from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from job_service.legacy import account, import_record
from job_service.legacy.ingestion import ingest
from job_service.legacy.inspection import Found
from job_service.legacy.options import Options
from job_service.legacy.ranges.batch import BatchImport
from job_service.legacy.ranges.passes import HIGHEST, Passes
from job_service.legacy.ranges.reading import Range
from job_service.legacy.remarks import remarks
from job_service.legacy.report import Report
from job_service.legacy.session import Driver, ImportFailedError, one


@dataclass(frozen=True, slots=True)
class Import:
    """One run of an import, on one connection: it says how far it is, and fills in the report."""

    driver: Driver
    options: Options
    report: Report
    say: Callable[[str], None]

    def announce(self, found: Found, plan: list[str]) -> None:
        """Tell what was found and what is going to be done."""
        self.report.describe(found, remarks(found))
        self.report.plan = plan
        self.report.print_found(self.say)

    async def begin(self, found: Found) -> None:
        """Fix where new ids begin. Raises ImportFailedError when there is no room for them."""
        (highest,) = await one(self.driver, "SELECT coalesce(max(id), 0) FROM generation_jobs")
        next_id = max(found.max_id, highest) + self.options.id_headroom + 1
        if next_id > HIGHEST - 10**9:
            raise ImportFailedError(
                f"the highest id is {max(found.max_id, highest)}: above it there is no room"
            )
        mode = "in place" if self.options.source_url is None else "from"
        await import_record.begin(self.driver, next_id, mode)

    async def passes(self, found: Found, on_range: Callable[[Range], Any] | None = None) -> Passes:
        """Passes over the former tables, of which the views are there."""
        batch = self.batch()
        await batch.prepare()
        return Passes(self.driver, found, batch, batch_rows=self.options.batch, on_range=on_range)

    def batch(self) -> BatchImport:
        """What brings ranges over, as the options say."""
        options = self.options
        return BatchImport(self.driver, options.running, options.max_running, options.checkpoint)

    async def settle(self, found: Found, passes: Passes) -> None:
        """Have the report say what was done and proved, and then take the files in.

        Raises VerificationError.
        """
        await account.settle(self.driver, found, passes, self.report)
        await self.conclude(passes)

    async def conclude(self, passes: Passes) -> None:
        """List the rows of which there is something to be said, and take the files in."""
        for event in passes.events:
            if event.kind == "removed":
                self.report.rows.add(event.kind, event.source, event.source_id, event.job_id)
        await account.list_rows(self.driver, self.report.rows)
        if self.options.artifacts_root is not None and not self.options.dry_run:
            self.report.files = await ingest(
                self.driver, self.options.artifacts_root, self.options.artifact_store, self.say
            )
