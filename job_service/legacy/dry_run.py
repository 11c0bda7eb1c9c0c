"""A dry run: everything is gone through in temporary tables, and reported as if it were done."""

from job_service.legacy import account, shadows, source_views
from job_service.legacy.importing import Import
from job_service.legacy.inspection import Found
from job_service.legacy.progress import Progress
from job_service.legacy.ranges.reading import Range


async def read(run: Import, found: Found) -> None:
    """Go through all rows. Raises ImportFailedError, VerificationError."""
    driver = run.driver
    await source_views.create(driver, found)
    await shadows.create(driver)
    await run.begin(found)

    async def note(range_: Range) -> None:
        await account.remember_rows(driver, range_)
        await shadows.forget_jobs(driver)

    passes = await run.passes(found, note)
    with Progress(run.say, "read", found) as progress:
        await passes.run(driver.transaction, progress.advance, all_states=True)
    await account.list_remembered(driver, run.report.rows)
    await account.settle(driver, found, passes, run.report)
    run.report.verified = True
