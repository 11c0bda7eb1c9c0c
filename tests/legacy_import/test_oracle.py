"""What finds losses after an import does find them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import psycopg
import pytest
from sqlalchemy import URL

from job_service import server
from tests.jobs_protocol import ProtocolClient
from tests.legacy_import.importing import Move
from tests.legacy_import.old_content import Stored, stored
from tests.legacy_import.oracle import discrepancies
from tests.legacy_import.reading import read_all, settings_for
from tests.legacy_import.samples import SHAPES, sample
from tests.postgres_fixture import new_database, plain_url

pytestmark = pytest.mark.former

LOSSES = {
    "a job is gone": "DELETE FROM generation_jobs WHERE id = 106",
    "a job came from nowhere": "INSERT INTO generation_jobs (prompt) VALUES ('p')",
    "a request is not found": "UPDATE generation_jobs SET legacy_request_id = NULL WHERE id > 200",
    "another user": "UPDATE generation_jobs SET user_id = gen_random_uuid() WHERE id = 3",
    "a time zone was guessed": "UPDATE generation_jobs"
    " SET created_at = created_at + interval '2 hours' WHERE id = 3",
    "a microsecond": "UPDATE generation_jobs"
    " SET completed_at = completed_at + interval '1 microsecond' WHERE id = 3",
    "a size was clamped": "UPDATE generation_jobs SET width = 64 WHERE id = 106",
    "a kept value": "UPDATE generation_jobs SET params = params #- '{legacy,width}' WHERE id = 106",
    "a parameter": "UPDATE generation_jobs SET params = params - 'style' WHERE id = 3",
    "a parameter more": "UPDATE generation_jobs SET params = params || '{\"a\": 1}' WHERE id = 3",
    "digits": "UPDATE generation_jobs SET params = params || '{\"n\": 9007199254740992}'"
    " WHERE id = 109",
    "a LoRA": "UPDATE generation_jobs SET lora_models = '[]' WHERE legacy_request_id = 4",
    "a sampler setting": "UPDATE generation_jobs SET params = params #- '{sampler_params,cfg}'"
    " WHERE legacy_request_id = 4",
    "a seed": "UPDATE generation_jobs SET seed = 43 WHERE legacy_request_id = 4",
    "a status": "UPDATE generation_jobs SET status = 'completed' WHERE id = 5",
    "an error": "UPDATE generation_jobs SET error = error - 'message' WHERE id = 4",
    "content": "UPDATE generation_jobs SET content_id = NULL WHERE id = 3",
    "a path": "DELETE FROM job_artifacts WHERE position = 1 AND job_id = 104",
    "another path": "UPDATE job_artifacts SET external_location = 'x' WHERE job_id = 104",
    "a negative prompt of nobody": "UPDATE generation_jobs SET negative_prompt = 'x' WHERE id = 3",
    "a label": 'UPDATE generation_jobs SET labels = \'{"a": "b"}\' WHERE id = 3',
}


class Imported:
    """An import, and what our service says of it now."""

    def __init__(self, old: Stored, client: ProtocolClient) -> None:
        self._old = old
        self._client = client

    async def discrepancies(self) -> list[str]:
        new = await read_all(self._client, list(self._old.requests))
        return discrepancies(self._old, new)


@pytest.fixture
async def imported(database: str, tmp_path: Path) -> AsyncIterator[Imported]:
    content = sample(SHAPES["B"])
    with psycopg.connect(database) as connection:
        content.build(connection)
        old = stored(connection)
    move = Move(database, database, tmp_path)
    move.run("--cutover")
    async with (
        server.running(settings_for(move.target, move.folder)) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield Imported(old, ProtocolClient(channel))


@pytest.fixture
def database(postgres_server: URL) -> Iterator[str]:
    with new_database(postgres_server) as url:
        yield plain_url(url)


async def test_every_loss_is_found(imported: Imported, database: str) -> None:
    assert await imported.discrepancies() == []
    unnoticed = []
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("ALTER TABLE user_notifications DISABLE TRIGGER ALL")
        connection.execute("ALTER TABLE generation_jobs DISABLE TRIGGER USER")
        connection.execute("CREATE TABLE saved AS SELECT * FROM generation_jobs")
        connection.execute("CREATE TABLE saved_files AS SELECT * FROM job_artifacts")
        for loss, statement in LOSSES.items():
            changed = connection.execute(statement.encode()).rowcount
            assert changed > 0, loss
            if await imported.discrepancies() == []:
                unnoticed.append(loss)
            with connection.transaction():
                connection.execute("ALTER TABLE generation_jobs DISABLE TRIGGER ALL")
                connection.execute("DELETE FROM generation_jobs")
                connection.execute("DELETE FROM job_artifacts")
                connection.execute("INSERT INTO generation_jobs SELECT * FROM saved")
                connection.execute(
                    "INSERT INTO job_artifacts OVERRIDING SYSTEM VALUE SELECT * FROM saved_files"
                )
    assert unnoticed == []
