"""/livez says that the process answers, /readyz that it can serve, and if not, why."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

import grpc
import psycopg
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from sqlalchemy import make_url

from job_service import server
from job_service.cannot_run import CannotRunError
from job_service.settings import Settings
from tests.end_to_end.real_processes import free_address
from tests.jobs_protocol import ProtocolClient
from tests.metrics_protocol import get, scrape
from tests.service_fixture import Sql

VERSION_TABLE = "generation_jobs_alembic_version"


@pytest.fixture
def service_settings(service_settings: Settings) -> Settings:
    return service_settings.model_copy(
        update={"metrics_listen": free_address(), "shutdown_grace": timedelta(seconds=20)}
    )


@pytest.fixture
def metrics(service_settings: Settings) -> str:
    """Where liveness and readiness are told."""
    assert service_settings.metrics_listen is not None
    return service_settings.metrics_listen


async def until(metrics: str, status: int) -> str:
    """Ask until the answer has this status; its text."""
    async with asyncio.timeout(30):
        while True:
            answered, text = await get(metrics, "/readyz")
            if answered == status:
                return text
            await asyncio.sleep(0.1)


async def test_ready_while_the_schema_is_this_versions_or_a_newer_ones(
    service: str, metrics: str, sql: Sql
) -> None:
    assert service
    assert await until(metrics, 200) == "ok\n"
    row = await (await sql.execute(f"SELECT version_num FROM {VERSION_TABLE}".encode())).fetchone()
    assert row is not None

    await sql.execute(f"UPDATE {VERSION_TABLE} SET version_num = '0001'".encode())
    assert "job-service migrate" in await until(metrics, 503)
    await sql.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'".encode())
    await until(metrics, 200)
    await sql.execute(f"ALTER TABLE {VERSION_TABLE} RENAME TO elsewhere".encode())
    assert (await until(metrics, 503)).startswith("schema: ")
    assert await get(metrics, "/livez") == (200, "ok\n")


async def test_not_ready_without_a_database_but_alive(
    service: str, metrics: str, database_url: str
) -> None:
    assert service
    await until(metrics, 200)
    url = make_url(database_url).set(drivername="postgresql")
    admin = url.set(database="postgres").render_as_string(hide_password=False)
    name = str(url.database)
    async with await psycopg.AsyncConnection.connect(admin, autocommit=True) as connection:
        await connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
        try:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
            )
            assert (await until(metrics, 503)).startswith("database: ")
            assert await get(metrics, "/livez") == (200, "ok\n")
            seen = await scrape(metrics)
            assert seen("job_service_ready") == 0
        finally:
            await connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
    await until(metrics, 200)


async def test_draining_is_not_ready_from_the_first_moment_to_the_last(
    service_settings: Settings, metrics: str
) -> None:
    async with AsyncExitStack() as stop:
        address = await stop.enter_async_context(server.running(service_settings))
        async with grpc.aio.insecure_channel(address) as channel:
            await until(metrics, 200)
            upload = ProtocolClient(channel).stub.UploadInput(timeout=60)
            await upload.write(pb.UploadInputRequest(header=pb.InputHeader(filename="a.png")))
            stopping = asyncio.create_task(stop.aclose())
            assert (await until(metrics, 503)).startswith("draining: ")
            assert await get(metrics, "/livez") == (200, "ok\n")
            upload.cancel()
            await stopping


async def test_an_address_that_is_taken_is_one_clear_line(
    service_settings: Settings, metrics: str
) -> None:
    taken = await asyncio.start_server(lambda *_: None, *metrics.split(":"))
    async with taken:
        with pytest.raises(CannotRunError, match=f"cannot listen on {metrics} for metrics"):
            async with server.running(service_settings):
                pass
