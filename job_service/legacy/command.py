"""What ``job-service import-legacy`` does: one action, one report."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg

from job_service.jobs.limits import MAX_NAME
from job_service.jobs.refusals import RefusedError
from job_service.legacy import bulk_load, from_database, in_place
from job_service.legacy.dropping import drop_legacy
from job_service.legacy.importing import Import
from job_service.legacy.inspection import inspect, is_migrated
from job_service.legacy.options import Options
from job_service.legacy.report import Report, RowList
from job_service.legacy.session import ImportFailedError, connect, lock
from job_service.legacy.undo import undo


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What is asked for. ``dump``: to be written with ``drop``, or read with ``undo``."""

    options: Options
    undo: bool = False
    drop: bool = False
    dump: Path | None = None
    report: Path | None = None


async def run(command: Command, say: Callable[[str], None]) -> None:
    """Do it and write the report, also of what failed.

    Raises ImportFailedError.
    """
    with closing(RowList()) as rows:
        report = Report(
            mode="in place" if command.options.source_url is None else "from",
            rows=rows,
            action=_action(command),
            dry_run=command.options.dry_run,
        )
        _check_options(command)
        _check_paths(command)
        try:
            await _act(command, report, say)
        except (ImportFailedError, RefusedError, psycopg.Error) as error:
            report.verified = False
            report.problems.append(str(error).strip())
            _write(report, command, say)
            raise ImportFailedError(str(error).strip()) from error
        _write(report, command, say)


def _check_options(command: Command) -> None:
    """No option is ignored, least of all --dry-run."""
    options = command.options
    actions = [
        name
        for name, chosen in (("--undo", command.undo), ("--drop-legacy", command.drop))
        if chosen
    ]
    if len(actions) > 1:
        raise ImportFailedError(f"{' and '.join(actions)} exclude each other")
    if options.checkpoint is not None and not 0 < len(options.checkpoint) <= MAX_NAME:
        raise ImportFailedError(f"--checkpoint: 1 to {MAX_NAME} characters")
    if not actions:
        if command.dump is not None:
            raise ImportFailedError("--dump is for --drop-legacy and --undo")
        return
    (action,) = actions
    of_imports = {
        "--dry-run": options.dry_run,
        "--cutover": options.cutover,
        "--checkpoint": options.checkpoint is not None,
        "--artifacts-root": options.artifacts_root is not None,
    }
    misplaced = [name for name, given in of_imports.items() if given]
    if misplaced:
        raise ImportFailedError(f"{misplaced[0]} is for imports: {action} does nothing with it")
    if command.drop and options.source_url is not None:
        raise ImportFailedError(
            "--drop-legacy drops the former tables that are in job_service's own database after a "
            "cutover in place; the database of --from is only read: drop what is there yourself"
        )


def _check_paths(command: Command) -> None:
    """Of a path that cannot be used people hear before the work, not after it."""
    root = command.options.artifacts_root
    if root is not None and not root.is_dir():
        raise ImportFailedError(f"--artifacts-root: {root} is no folder")
    for option, file in (("--report", command.report), ("--dump", command.dump)):
        if file is not None and not file.absolute().parent.is_dir():
            raise ImportFailedError(f"{option}: there is no folder {file.absolute().parent}")


def _action(command: Command) -> str:
    if command.undo:
        return "undo"
    if command.drop:
        return "drop legacy"
    return "cutover" if command.options.cutover else "import"


async def _act(command: Command, report: Report, say: Callable[[str], None]) -> None:
    if command.undo:
        await undo(command.options.url, report, command.dump, say)
    elif command.drop:
        await drop_legacy(command.options.url, report, command.dump, say)
    else:
        async with connect(command.options.url) as driver:
            await lock(driver)
            await _import(Import(driver, command.options, report, say))


async def _import(run: Import) -> None:
    if run.options.source_url is not None:
        await from_database.bring_over(run, run.options.source_url)
    elif await is_migrated(run.driver):
        await in_place.check_again(run)
    else:
        await in_place.bring_over(run)


def _write(report: Report, command: Command, say: Callable[[str], None]) -> None:
    if command.report is not None:
        report.write_json(command.report)
    report.print_rest(say, all_rows=command.report is None)


async def finish_interrupted(url: str) -> None:
    """Make the indexes that an import which was killed has left out; usually there are none.

    Raises ImportFailedError.
    """
    async with connect(url) as driver:
        if await bulk_load.is_deferred(driver):
            await lock(driver)
            await bulk_load.complete(driver)


async def former_tables(url: str) -> str | None:
    """The state of the former tables where the service's own should be; None: there are none."""
    try:
        async with connect(url) as driver:
            if await is_migrated(driver):
                return None
            found = await inspect(driver)
    except psycopg.Error as error:
        why = " ".join(str(error).split())
        raise ImportFailedError(f"the database cannot be read: {why}") from error
    return None if found is None else found.state
