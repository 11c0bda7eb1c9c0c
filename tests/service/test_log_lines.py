"""What the log of a job_service holds: one line an event, who and which job; and no prompts."""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from generation_jobs.v1 import (
    generation_job_service_pb2,
    job_pb2,
    model_service_pb2,
    operator_service_pb2,
    worker_service_pb2,
)
from generation_jobs.v1 import generation_job_service_pb2 as pb
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from tests.end_to_end.real_processes import RealProcess, free_address, serving
from tests.jobs_protocol import ProtocolClient, refusal
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker

CANARY: Final = "CANARY-of-a-prompt"
#: Fields in which a prompt may be, wherever they stand.
CARRIERS: Final = {
    "prompt": CANARY,
    "negative_prompt": CANARY,
    "search": CANARY,
    "description": CANARY,
    "params_json": json.dumps({CANARY: CANARY}),
    "arguments_json": json.dumps({"prompt": CANARY, CANARY: 1}),
    "default_json": json.dumps(CANARY),
    "choices_json": json.dumps(CANARY),
    "workflow_json": json.dumps(
        {
            "1": {"class_type": "CLIPTextEncode", "inputs": {"text": CANARY, "clip": ["2", 1]}},
            "2": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": CANARY}},
            "3": {"class_type": "KSampler", "inputs": {"sampler_name": CANARY, "seed": CANARY}},
        }
    ),
}
METHODS: Final[list[MethodDescriptor]] = [
    method
    for file in (
        generation_job_service_pb2,
        model_service_pb2,
        operator_service_pb2,
        worker_service_pb2,
    )
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
REQUEST_ID: Final = "the-callers-own-id"


def message_with_prompts(descriptor: Descriptor, *, holding: str = "", depth: int = 4) -> Any:
    """A message in which every field that may carry a prompt does; ids name job 1."""
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if field.containing_oneof is not None and field.name == holding:
            continue
        if field.name in CARRIERS:
            _put(message, field, CARRIERS[field.name])
        elif field.name in ("id", "job_id"):
            setattr(message, field.name, 1)
        elif field.message_type is not None and depth and field.name not in ("wait", "labels"):
            nested = message_with_prompts(field.message_type, holding=holding, depth=depth - 1)
            if nested.ListFields():
                _put(message, field, nested)
    return message


def _put(message: Any, field: FieldDescriptor, value: Any) -> None:
    if field.is_repeated:
        getattr(message, field.name).append(value)
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(value)
    else:
        setattr(message, field.name, value)


@asynccontextmanager
async def logging_service(
    folder: Path, database_url: str, level: str
) -> AsyncIterator[tuple[grpc.aio.Channel, Path]]:
    """A job_service as a process, and where its log goes."""
    address, log = free_address(), folder / f"{level}.log"
    service = RealProcess(
        ["job-service", "serve"],
        log,
        JOB_SERVICE_LISTEN=address,
        JOB_SERVICE_DATABASE_URL=database_url,
        JOB_SERVICE_DATA_DIR=str(folder),
        JOB_SERVICE_LOG_LEVEL=level,
        JOB_SERVICE_LOG_FORMAT="json",
        JOB_SERVICE_SHUTDOWN_GRACE="1",
    )
    async with AsyncExitStack() as stack:
        await serving(stack, service, address)
        async with grpc.aio.insecure_channel(address) as channel:
            yield channel, log


def lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


async def call(channel: grpc.aio.Channel, method: MethodDescriptor, messages: Iterable[Any]) -> Any:
    """Make one call of whatever kind; its trailing metadata."""
    assert method.containing_service is not None
    path = f"/{method.containing_service.full_name}/{method.name}"
    kind = (
        f"{'stream' if method.client_streaming else 'unary'}"
        f"_{'stream' if method.server_streaming else 'unary'}"
    )
    made: Any = getattr(channel, kind)(
        path,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    sent = iter(messages) if method.client_streaming else next(iter(messages))
    seconds = 0.3 if method.name.startswith("Watch") else 20
    started = made(sent, timeout=seconds, metadata=[("x-request-id", REQUEST_ID)])
    try:
        if method.server_streaming:
            async for _ in started:
                pass
        else:
            await started
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return None
    return await started.trailing_metadata()


async def test_no_prompt_of_any_call_is_logged_above_debug(
    tmp_path: Path, database_url: str, sql: Sql
) -> None:
    async with logging_service(tmp_path, database_url, "info") as (channel, log):
        client, worker = ProtocolClient(channel), ProtocolWorker(channel)
        await worker.report_catalogue()
        job = await client.create(prompt=CANARY, negative_prompt=CANARY, request_id="once")
        for method in METHODS:
            for holding in ("workflow_json", "template"):
                message = message_with_prompts(method.input_type, holding=holding)
                trailing = await call(channel, method, [message])
                if trailing is not None:
                    assert dict(trailing)["x-request-id"] == REQUEST_ID, method.name
        # a bug: the database quotes the row
        await sql.execute("ALTER TABLE generation_jobs ADD CONSTRAINT bug CHECK (width <> 72)")
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await client.create(prompt=CANARY, width=72)
        assert refusal(failed.value).reason == "INTERNAL"
    written = log.read_text()
    assert CANARY not in written
    said = lines(log)
    refused = [line for line in said if line["event"] == "call refused"]
    assert {line["request_id"] for line in refused} >= {REQUEST_ID}
    assert {line["subject"] for line in refused} == {"local"}
    assert any(line.get("job_id") == job.id for line in refused)
    (bug,) = (line for line in said if line["event"] == "call failed")
    assert "CheckViolation" in bug["exception"]
    assert "bug" in bug["exception"]


@pytest.mark.heavy  # starts a process
async def test_at_debug_a_prompt_is_logged_with_its_job(tmp_path: Path, database_url: str) -> None:
    async with logging_service(tmp_path, database_url, "debug") as (channel, log):
        client = ProtocolClient(channel)
        job = (
            await client.stub.CreateJob(
                pb.CreateJobRequest(
                    job=job_pb2.GenerationJob(prompt=CANARY, checkpoint_model="some.safetensors")
                ),
                metadata=[("x-request-id", REQUEST_ID)],
                timeout=20,
            )
        ).job
    (stored,) = (line for line in lines(log) if line["event"] == "job stored")
    assert stored["prompt"] == CANARY
    assert stored["job_id"] == job.id
    assert stored["request_id"] == REQUEST_ID


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "ü"])
async def test_a_request_id_that_cannot_be_used_is_replaced(
    channel: grpc.aio.Channel, given: str
) -> None:
    client = ProtocolClient(channel)
    metadata = [("x-request-id", given)] if given.isascii() and given else []
    ids = set()
    for _ in range(2):
        made = client.stub.GetQueueStats(pb.GetQueueStatsRequest(), metadata=metadata, timeout=20)
        await made
        trailing: Any = await made.trailing_metadata()
        ids.add(dict(trailing)["x-request-id"])
    assert len(ids) == 2
    assert given not in ids
