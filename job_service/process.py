"""The life of a job_service process: the database first, then its schema, then the server."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from job_service import server
from job_service.cannot_run import CannotRunError
from job_service.embedded_postgres import EmbeddedPostgres
from job_service.legacy import command as legacy
from job_service.legacy.command import Command, former_tables
from job_service.legacy.options import Options
from job_service.settings import Settings
from job_service.store import migrate as schema
from job_service.store.migrate import SchemaState

logger = structlog.get_logger(__name__)


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        CannotRunError: the database is missing, its schema is not the one this version needs, or
            the address may not be listened on.
    """
    why_not = settings.why_not_listen()
    if why_not is not None:
        raise CannotRunError(why_not)
    _end_on_signals()
    try:
        async with database(settings) as (url, embedded):
            state = await asyncio.to_thread(schema.check, url)
            if state is SchemaState.EMPTY:
                await _refuse_former_tables(url)
            if embedded or settings.migrate:
                await _upgrade(url)
            else:
                _require_schema(state)
            await _serve(settings.model_copy(update={"database_url": url}), embedded)
    except asyncio.CancelledError:
        logger.info("stopped while starting")


async def migrate(settings: Settings, say: Callable[[str], None]) -> str:
    """Bring the schema up to date and answer the revision it is at.

    Tables of the former system are imported first, in place. ``say`` is told of it.
    """
    async with database(settings) as (url, _):
        await asyncio.to_thread(schema.current, url)  # whether it will do at all
        if await former_tables(url) is not None:
            options = Options(
                url=url,
                cutover=True,
                artifact_store=settings.artifact_store,
                max_running=settings.max_running_per_user,
            )
            await legacy.run(Command(options=options), say)
        return await _upgrade(url)


async def import_legacy(
    settings: Settings, command: Callable[[str], Command], say: Callable[[str], None]
) -> None:
    """Run an import, or what belongs to it; ``command`` is made for the database's URL."""
    async with database(settings) as (url, _):
        await legacy.run(command(url), say)


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[tuple[str, EmbeddedPostgres | None]]:
    """Where the database is; the embedded one runs while this context is open."""
    if settings.database_url is not None:
        yield settings.database_url, None
        return
    async with EmbeddedPostgres(settings.embedded_postgres_directory) as embedded:
        logger.info("embedded PostgreSQL runs", directory=str(settings.embedded_postgres_directory))
        yield embedded.url, embedded


@asynccontextmanager
async def migrated_database(settings: Settings) -> AsyncIterator[str]:
    """Where the database is, its schema the one this version needs.

    Raises CannotRunError: the database cannot be used, or was not migrated.
    """
    async with database(settings) as (url, embedded):
        if embedded:
            await _upgrade(url)
        else:
            _require_schema(await asyncio.to_thread(schema.check, url))
        yield url


async def _serve(settings: Settings, embedded: EmbeddedPostgres | None) -> None:
    if embedded is None:
        await server.serve(settings)
        return
    serving = asyncio.create_task(server.serve(settings))
    ended = asyncio.create_task(embedded.wait())
    try:
        await asyncio.wait((serving, ended), return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            raise CannotRunError(
                f"the embedded PostgreSQL ended by itself (exit code {ended.result()}); "
                "nothing is lost, start again"
            )
        await serving
    finally:
        for task in (serving, ended):
            task.cancel()
        await asyncio.gather(serving, ended, return_exceptions=True)


async def _upgrade(url: str) -> str:
    await legacy.finish_interrupted(url)
    await asyncio.to_thread(schema.upgrade, url)
    revision = str(await asyncio.to_thread(schema.current, url))
    logger.info("schema is up to date", revision=revision)
    return revision


async def _refuse_former_tables(url: str) -> None:
    state = await former_tables(url)
    if state is not None:
        raise CannotRunError(
            f"the database has the tables of the former system (state {state}): run `job-service "
            "import-legacy --dry-run` to see what there is, and `job-service migrate` to bring "
            "them over"
        )


def _require_schema(state: SchemaState) -> None:
    if state in (SchemaState.EMPTY, SchemaState.BEHIND):
        raise CannotRunError(
            f"the database's schema is {state.value}, this version needs revision "
            f"{schema.expected()}: run `job-service migrate`, or serve with --migrate"
        )
    if state is SchemaState.UNKNOWN:
        # A newer replica has migrated; migrations keep the version before them working.
        logger.warning("the database's schema is of a newer version than this one")


def _end_on_signals() -> None:
    """Until the server takes the signals over, they end the start in good order."""
    starting = asyncio.current_task()
    if starting is not None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, starting.cancel)
