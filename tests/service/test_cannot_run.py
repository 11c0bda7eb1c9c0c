"""What keeps a job_service from starting is one line that says what is wrong, no traceback."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from job_service import process, server
from job_service.cannot_run import CannotRunError
from job_service.settings import Settings
from tests.end_to_end.real_processes import free_address


async def cannot_run(settings: Settings, **changes: Any) -> str:
    with pytest.raises(CannotRunError) as error:
        async with server.running(settings.model_copy(update=changes)):
            pass
    assert "\n" not in str(error.value)
    return str(error.value)


async def test_addresses_that_are_taken(service_settings: Settings) -> None:
    address = free_address()
    async with await asyncio.start_server(lambda *_: None, *address.split(":")):
        said = await cannot_run(service_settings, listen=address)
        assert said.startswith(f"cannot listen on {address}: another process does")
        said = await cannot_run(service_settings, metrics_listen=address)
        assert said.startswith(f"cannot listen on {address} for metrics: ")


@pytest.mark.parametrize("url", ["gopher://x/y", "s3://", "az://container"])
async def test_a_store_that_nobody_knows(service_settings: Settings, url: str) -> None:
    said = await cannot_run(service_settings, artifact_store=url)
    assert said.startswith("JOB_SERVICE_ARTIFACT_STORE cannot be used: ")


async def test_a_directory_that_cannot_be_made(service_settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = (tmp_path / "file" / "store").as_uri()
    said = await cannot_run(service_settings, artifact_store=store)
    assert str(tmp_path) in said


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("postgresql+psycopg://ada:s3cret@127.0.0.1:1/jobs", "Connection refused"),
        ("postgresql+psycopg://ada:s3cret@127.0.0.1:1/jobs?nonsense=1", "nonsense"),
    ],
)
async def test_a_database_that_cannot_be_reached(
    service_settings: Settings, url: str, complaint: str
) -> None:
    with pytest.raises(CannotRunError, match="cannot reach the database: ") as error:
        await process.run(service_settings.model_copy(update={"database_url": url}))
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)
    assert "s3cret" not in str(error.value)
