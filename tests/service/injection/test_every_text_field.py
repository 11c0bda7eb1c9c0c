"""Hostile text in every text field of every RPC has no effect but an answer."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack
from itertools import islice
from pathlib import Path
from typing import Final

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor

from tests.end_to_end.real_processes import RealProcess, free_address, serving
from tests.every_method import BLAMELESS, METHODS, first_answer, start_call
from tests.message_fields import Path as FieldPath
from tests.message_fields import is_text, paths, put, shown
from tests.service.injection.canaries import canaries
from tests.service_fixture import Sql
from tests.valid_requests import ValidRequests

FIELDS: Final = [(method, path) for method in METHODS for path in paths(method.input_type, is_text)]
#: What artifacts and inputs are stored as.
KEY: Final = re.compile(r"(jobs/\d+/\d+|inputs|artifacts)?/?[0-9a-z./-]+")
LANES: Final = 6


class Service:
    """A job_service process, its folders and its log."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.address = free_address()
        self.data = folder / "data"
        self._log = folder / "log"
        self.process = RealProcess(
            ["job-service", "serve"],
            self._log,
            JOB_SERVICE_LISTEN=self.address,
            JOB_SERVICE_DATA_DIR=str(self.data),
            JOB_SERVICE_DATABASE_URL=database_url,
            JOB_SERVICE_LOG_FORMAT="json",
            JOB_SERVICE_LOG_LEVEL="debug",
            JOB_SERVICE_CREATE_RATE_PER_USER="0",
        )

    def events(self) -> list[str]:
        """What it has logged: a line each, of JSON, without anything that is not to look at."""
        lines = self._log.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        assert all(line.isprintable() for line in lines)
        return [json.loads(line)["event"] for line in lines]

    def stored(self) -> list[str]:
        """The keys in its artifact store."""
        store = self.data / "artifacts"
        return [str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()]


@pytest.fixture
async def service(tmp_path: Path, database_url: str) -> AsyncIterator[Service]:
    running = Service(tmp_path, database_url)
    async with AsyncExitStack() as stack:
        await serving(stack, running.process, running.address)
        yield running


@pytest.mark.parametrize(
    "each",
    [2, pytest.param(10_000, marks=[pytest.mark.heavy, pytest.mark.timeout(1200)])],
    ids=["some", "all"],
)
async def test_hostile_text_has_no_effect(
    service: Service, sql: Sql, tmp_path: Path, each: int
) -> None:
    async with canaries(tmp_path / "canary", sql) as untouched:
        await untouched.note(tmp_path, service.data)
        attempts = list(attempts_of(untouched.texts, each))
        complaints: list[str] = []
        async with asyncio.TaskGroup() as lanes:
            for lane in range(LANES):
                share = attempts[lane::LANES]
                lanes.create_task(attack(service.address, f"lane-{lane}", share, complaints))
        await untouched.assert_untouched()
    assert not complaints, complaints
    assert len(attempts) >= len(FIELDS) * min(each, len(untouched.texts))
    assert "forged" not in service.events()
    assert all(KEY.fullmatch(key) for key in service.stored()), service.stored()


Attempt = tuple[MethodDescriptor, FieldPath, str]


def attempts_of(texts: list[str], each: int) -> Iterator[Attempt]:
    """For every field some of the texts, for each field others."""
    for number, (method, path) in enumerate(FIELDS):
        first = number * 7 % len(texts)
        for text in islice([*texts[first:], *texts[:first]], each):
            yield method, path, text


async def attack(
    address: str, lane: str, attempts: Iterable[Attempt], complaints: list[str]
) -> None:
    """Make the attempts one after the other; add what is wrong with how one ends."""
    async with grpc.aio.insecure_channel(address) as channel:
        valid = await ValidRequests(channel, lane).ready()
        for method, path, text in attempts:
            sent = await valid.of(method.name)
            put(sent[0], path, text)
            said = await outcome(channel, method, sent)
            if said is not grpc.StatusCode.OK and said not in BLAMELESS:
                complaints.append(f"{method.name} {shown(path)} {text[:100]!r}: {said.name}")


async def outcome(
    channel: grpc.aio.Channel, method: MethodDescriptor, sent: Iterable[object]
) -> grpc.StatusCode:
    """How a call ends; a stream's first answer is enough."""
    call = start_call(channel, method, sent, timeout=20)  # type: ignore[arg-type]
    try:
        await first_answer(call, method)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_every_carrier_of_text_is_among_the_fields() -> None:
    """So that the walk through the descriptors finds what it should."""
    found = {f"{method.name} {shown(path)}" for method, path in FIELDS}
    assert {
        "CreateJob job.prompt",
        "CreateJob job.workflow_json",
        "CreateJob job.lora_models.name",
        "CreateJob job.labels.key",
        "CreateJob job.labels.value",
        "ListJobs filter.search",
        "ListJobs page_token",
        "UploadInput header.filename",
        "UploadArtifact header.content_type",
        "ReportCatalogue catalogues.node_signatures.class_type",
        "FailJob error.technical_details",
        "UpdateJob update_mask.paths",
    } <= found
