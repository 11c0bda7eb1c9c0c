"""Dumps of the former tables, by PostgreSQL's own programs."""

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from job_service.embedded_postgres import cluster
from job_service.legacy.inspection import KEPT_SCHEMA, Found
from job_service.legacy.session import Driver, ImportFailedError, one, plain

_VERSION: Final = re.compile(r"\(PostgreSQL\) (\d+)")


async def write(driver: Driver, url: str, found: Found, file: Path) -> None:
    """Dump the former tables and prove that the dump has all their rows.

    Raises ImportFailedError when there is no program that can, the file is there already, or the
    dump is not complete.
    """
    if await asyncio.to_thread(file.exists):
        raise ImportFailedError(f"{file} is there already: name a new file")
    pg_dump, pg_restore = await _programs(driver)
    tables = [f"--table={KEPT_SCHEMA}.{table.name}" for table in found.tables.values()]
    unfinished = file.with_name(file.name + ".unfinished")
    try:
        await asyncio.to_thread(
            _run,
            [pg_dump, "--format=custom", *tables, f"--file={unfinished}", _target(url)],
            url,
        )
        for table in found.tables.values():
            rows = await asyncio.to_thread(_count_rows, pg_restore, unfinished, table.name)
            if rows != table.rows:
                raise ImportFailedError(
                    f"the dump has {rows} rows of {table.name}, the table {table.rows}: "
                    "nothing was dropped"
                )
        with unfinished.open("rb") as written:
            os.fsync(written.fileno())
        unfinished.rename(file)
    finally:
        unfinished.unlink(missing_ok=True)


async def restore(driver: Driver, url: str, file: Path) -> None:
    """Make the former tables again, in the schema they were dumped from."""
    if not await asyncio.to_thread(file.is_file):
        raise ImportFailedError(f"there is no dump {file}")
    _, pg_restore = await _programs(driver)
    await driver.execute(f"CREATE SCHEMA IF NOT EXISTS {KEPT_SCHEMA}".encode())
    await asyncio.to_thread(
        _run,
        [
            pg_restore,
            "--exit-on-error",
            "--single-transaction",
            "--no-owner",
            f"--dbname={_target(url)}",
            str(file),
        ],
        url,
    )


async def _programs(driver: Driver) -> tuple[str, str]:
    """pg_dump and pg_restore that know this server's version: the system's, or the embedded."""
    (number,) = await one(driver, "SELECT current_setting('server_version_num')")
    server = int(number) // 10_000
    folders = [Path(found).parent for found in [shutil.which("pg_dump")] if found]
    with contextlib.suppress(cluster.EmbeddedPostgresError):  # the extra is not installed
        folders.append(cluster.find_programs().folder)
    for folder in folders:
        pg_dump, pg_restore = str(folder / "pg_dump"), str(folder / "pg_restore")
        if await asyncio.to_thread(_version, pg_dump) >= server and shutil.which(pg_restore):
            return pg_dump, pg_restore
    raise ImportFailedError(
        f"no pg_dump of version {server} or newer was found: install PostgreSQL's client programs, "
        "or pip install 'generation-jobs[embedded]'"
    )


def _version(program: str) -> int:
    try:
        told = subprocess.run(  # noqa: S603 - PostgreSQL's own program
            [program, "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0
    found = _VERSION.search(told)
    return int(found[1]) if found else 0


def _target(url: str) -> str:
    """Where to connect, without the password: command lines can be read by others."""
    return make_conninfo("", **{**_parameters(url), "password": None})


def _parameters(url: str) -> Mapping[str, Any]:
    return conninfo_to_dict(plain(url))


def _run(command: Sequence[str], url: str) -> None:
    password = _parameters(url).get("password")
    environment = {**os.environ, **({"PGPASSWORD": str(password)} if password else {})}
    done = subprocess.run(  # noqa: S603 - PostgreSQL's own programs
        command, capture_output=True, text=True, check=False, env=environment, errors="replace"
    )
    if done.returncode != 0:
        program = Path(command[0]).name
        raise ImportFailedError(f"{program} failed, and nothing was changed: {done.stderr.strip()}")


def _count_rows(pg_restore: str, file: Path, table: str) -> int:
    """The rows of a table that a dump really has: read from end to end, none kept in memory."""
    rows = -1
    with subprocess.Popen(  # noqa: S603 - PostgreSQL's own program
        [pg_restore, "--data-only", f"--table={table}", "--file=-", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if rows < 0:
                rows = 0 if line.startswith(b"COPY ") else -1
            elif line == b"\\.\n":
                break
            else:
                rows += 1
        for _ in process.stdout:
            continue
    if process.returncode != 0 or rows < 0:
        raise ImportFailedError(f"the dump {file} cannot be read back: nothing was dropped")
    return rows
