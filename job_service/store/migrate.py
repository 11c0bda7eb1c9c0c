"""Brings the database's schema to the one this version expects, and says where it stands."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

import job_service
from job_service.cannot_run import CannotRunError

VERSION_TABLE = "generation_jobs_alembic_version"
# Any number nobody else uses on this database; the letters of "genjobs".
ADVISORY_LOCK = 0x67656E6A6F6273
LOCK_SECONDS = 300
CONNECT_ARGUMENTS = {
    "application_name": "job_service migrate",
    "connect_timeout": 10,
    # else nothing can be read from a database without an encoding, not even that it has none
    "client_encoding": "utf8",
}


class MigrationError(CannotRunError):
    """The schema cannot be read or brought up to date; the message says why."""


class UnfitEncodingError(MigrationError):
    """The database cannot hold every text."""


class SchemaState(Enum):
    """How the database's schema compares with the one this version expects."""

    CURRENT = "current"
    EMPTY = "empty"
    BEHIND = "behind"
    UNKNOWN = "of a version this one does not know"


@dataclass(frozen=True, slots=True)
class Revisions:
    """The revisions this version knows, of which it needs the ``expected`` one."""

    expected: str | None
    known: frozenset[str]

    def state_of(self, found: str | None) -> SchemaState:
        """How a database at this revision (None: never migrated) compares."""
        if found == self.expected:
            return SchemaState.CURRENT
        if found is None:
            return SchemaState.EMPTY
        return SchemaState.BEHIND if found in self.known else SchemaState.UNKNOWN


def revisions() -> Revisions:
    """What this version brings along; reads files."""
    scripts = ScriptDirectory.from_config(_config())
    known = frozenset(script.revision for script in scripts.walk_revisions())
    return Revisions(scripts.get_current_head(), known)


def expected() -> str | None:
    """The revision this version of the service works with."""
    return revisions().expected


def current(database_url: str) -> str | None:
    """The revision the database is at; ``None`` when it was never migrated."""
    with connected(database_url) as connection:
        return _current(connection)


def check(database_url: str) -> SchemaState:
    """Compare the database's revision with the expected one, changing nothing."""
    return revisions().state_of(current(database_url))


def upgrade(database_url: str) -> None:
    """Apply every missing migration; one process at a time does so, others wait for it.

    Raises:
        MigrationError: a newer version migrated this database, or another process has been
            migrating for longer than five minutes.
    """
    with connected(database_url) as connection, _alone(connection):
        _upgrade(connection)


def upgrade_under_lock(database_url: str, schema: str | None = None) -> None:
    """Do the same for a caller that holds the advisory lock.

    ``schema``: where the tables go, whatever there is elsewhere; default: where unqualified names
    lead. Raises MigrationError when a newer version migrated them.
    """
    options = "" if schema is None else f'-c search_path="{schema}"'
    with connected(database_url, options) as connection:
        _upgrade(connection)


def _upgrade(connection: Connection) -> None:
    found = _current(connection)
    if revisions().state_of(found) is SchemaState.UNKNOWN:
        raise MigrationError(
            f"the database is at revision {found}, which this version does not know: "
            "a newer version migrated it"
        )
    command.upgrade(_config(connection), "heads")
    connection.commit()


@contextmanager
def connected(database_url: str, options: str = "") -> Iterator[Connection]:
    """A connection of its own.

    Raises MigrationError when the database cannot be reached, or cannot hold every text.
    """
    arguments = CONNECT_ARGUMENTS | ({"options": options} if options else {})
    engine = create_engine(database_url, poolclass=NullPool, connect_args=arguments)
    try:
        connection = engine.connect()
    except DBAPIError as error:
        why = " ".join(str(error.orig).split())
        raise MigrationError(f"cannot reach the database: {why}") from error
    with connection:
        _require_utf8(connection)
        yield connection


def _require_utf8(connection: Connection) -> None:
    """PostgreSQL told when it was connected to: this asks nothing."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    encoding = driver.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise UnfitEncodingError(
            f"the database's encoding is {encoding}, and prompts need UTF8: create one with"
            " `createdb --encoding UTF8 --template template0`"
        )


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Hold the migration lock.

    It is tried again and again instead of waited for: a statement that waits keeps a snapshot,
    and a migration that builds an index concurrently waits for every older snapshot to end.
    """

    def locked() -> bool:
        answer = connection.execute(
            text("SELECT pg_try_advisory_lock(:key)"), {"key": ADVISORY_LOCK}
        )
        held = bool(answer.scalar_one())
        connection.commit()
        return held

    held = Retrying(
        retry=retry_if_result(lambda held: not held),
        stop=stop_after_delay(LOCK_SECONDS),
        wait=wait_fixed(0.2),
        retry_error_callback=lambda _: False,
    )(locked)
    if not held:
        raise MigrationError(f"another process has been migrating for {LOCK_SECONDS} s")
    # Closing the connection gives the lock back, whatever state a failed migration left it in.
    yield


def _current(connection: Connection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    revision = context.get_current_revision()
    connection.rollback()
    return revision


def _config(connection: Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection, "version_table": VERSION_TABLE})
    config.set_main_option("script_location", str(_migrations()).replace("%", "%%"))
    return config


def _migrations() -> Path:
    """The migrations: inside the package when installed, beside it in a checkout."""
    package = Path(job_service.__file__).parent
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"
