"""A worker whose token ends in the middle of a render goes on with the next one."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import grpc
import pytest
import structlog
from generation_jobs.v1 import generation_job_service_pb2 as pb

from comfy_worker.cannot_run import CannotRunError
from comfy_worker.simulator import Simulator
from job_service.access import secret, token_book
from job_service.client import JobServiceClient
from job_service.settings import Settings
from tests.jobs_protocol import ProtocolClient, refused
from tests.service.access.callers import ALICE, metadata
from tests.worker.worker.asking import SECONDS, completed, picture
from tests.worker.worker.conftest import StartWorker


class Tokens:
    """The tokens file of the service, and the file that the worker reads its own from."""

    def __init__(self, folder: Path) -> None:
        self.alices, self.first, self.second = (secret.drawn() for _ in range(3))
        self.of_service, self.of_worker = folder / "tokens", folder / "token"

    def give(self, token: str) -> None:
        """Have the worker send this one."""
        self.of_worker.write_text(token)

    def take(self, *tokens: str) -> None:
        """Have the service take these from workers."""
        lines = [f"ada client sha256:{secret.digest(self.alices).hex()} user={ALICE}"]
        lines += [f"box worker sha256:{secret.digest(token).hex()} worker=box" for token in tokens]
        self.of_service.write_text("\n".join(lines))


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    made = Tokens(tmp_path)
    made.take(made.first)
    return made


@pytest.fixture
def service_settings(
    service_settings: Settings, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    monkeypatch.setattr(token_book, "LOOK_EVERY_SECONDS", 0.1)
    return service_settings.model_copy(update={"tokens_file": tokens.of_service})


async def test_a_render_outlives_the_token_it_began_with(
    service: str, tokens: Tokens, start_worker: StartWorker, simulator: Simulator
) -> None:
    tokens.give(tokens.first)
    async with JobServiceClient(service, token=tokens.alices) as jobs:
        start_worker(token_file=tokens.of_worker)
        hold = simulator.faults.hold()
        asked = await jobs.create_job(picture())
        async with asyncio.timeout(SECONDS):
            prompt_id = await hold.reached()
            tokens.take(tokens.second)
            await _is_forgotten(service, tokens.first)
            hold.release()
            with structlog.testing.capture_logs() as log:
                while not any(_is_a_refused_result(one) for one in log):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        tokens.give(tokens.second)
        done = await completed(jobs, asked.id)
        assert (done.comfyui_prompt_id, done.attempt) == (prompt_id, 1)


async def test_a_catalogue_that_changes_after_the_token_has_ended_is_reported_with_the_next(
    service: str, tokens: Tokens, start_worker: StartWorker, simulator: Simulator
) -> None:
    tokens.give(tokens.first)
    with structlog.testing.capture_logs() as log:
        worker = start_worker(token_file=tokens.of_worker, catalogue_interval=0.2)
        async with asyncio.timeout(SECONDS):
            while not (_is_registered(log) and any(_offers(one, "0.8.0") for one in log)):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            tokens.take(tokens.second)
            await _is_forgotten(service, tokens.first)
            simulator.faults.version = "0.9.1"
            while not any(_is_a_refused_catalogue(one) for one in log):
                assert not worker.task.done()
                await asyncio.sleep(0.05)
            tokens.give(tokens.second)
            while not any(_offers(one, "0.9.1") for one in log):
                assert not worker.task.done()
                await asyncio.sleep(0.05)


def _is_registered(log: Sequence[structlog.typing.EventDict]) -> bool:
    """Whether the worker was admitted: until then, a token that is refused ends it."""
    return any(line["event"] == "registered with job_service" for line in log)


def _offers(line: structlog.typing.EventDict, version: str) -> bool:
    return (line["event"], line.get("version")) == ("comfyui offered", version)


def _is_a_refused_catalogue(line: structlog.typing.EventDict) -> bool:
    """Whether a catalogue was refused for the worker's token, in the service's log."""
    refused = "audit", "ReportCatalogue", "UNAUTHENTICATED"
    return (line["event"], line.get("method"), line.get("code")) == refused


async def _is_forgotten(service: str, token: str) -> None:
    """Wait until the service has noticed that it takes the token no longer."""
    async with grpc.aio.insecure_channel(service) as channel:
        stub = ProtocolClient(channel).stub
        reason = ""
        while reason != "TOKEN_UNKNOWN":
            call = stub.GetQueueStats(
                pb.GetQueueStatsRequest(), metadata=metadata(token), timeout=SECONDS
            )
            reason = (await refused(call)).reason


def _is_a_refused_result(line: structlog.typing.EventDict) -> bool:
    """Whether an upload or an outcome was refused for the worker's token, in the service's log."""
    method = str(line.get("method"))
    return line["event"] == "audit" and method != "LeaseJobs" and line["code"] == "UNAUTHENTICATED"


async def test_a_worker_whose_token_is_unknown_from_the_first_ends_with_a_clear_line(
    service: str, tokens: Tokens, start_worker: StartWorker
) -> None:
    tokens.give(secret.drawn())
    worker = start_worker(token_file=tokens.of_worker)
    async with asyncio.timeout(SECONDS):
        with pytest.raises(CannotRunError, match=r"does not admit this worker.*TOKEN_UNKNOWN"):
            await worker.task
