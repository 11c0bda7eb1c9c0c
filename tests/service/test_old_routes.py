"""Every request that docs/from-the-old-api.md gives as an example is answered as it says."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from generation_jobs.v1 import (
    generation_job_service_pb2,
    job_error_pb2,
    model_service_pb2,
    operator_service_pb2,
)
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from tests.jobs_protocol import FAILED, PENDING, RUNNING, ProtocolClient
from tests.worker_protocol import ProtocolWorker

PAGE = Path(__file__).parents[2] / "docs" / "from-the-old-api.md"
USER = "6f1c52b4-8a39-4a0e-9f43-0c1d1c1b7a10"
RPCS: dict[str, MethodDescriptor] = {
    rpc.name: rpc
    for file in (generation_job_service_pb2, model_service_pb2, operator_service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for rpc in service.methods
}
#: The routes and other ways in that clients had, as the page names them.
ROUTES = """
POST /api/v1/generation-jobs/ · GET …/{id} · PUT …/{id} · DELETE …/{id} · PUT …/{id}/status
PUT …/{id}/result · POST …/{id}/cancel · GET …/ · GET …/user/{u}/jobs · GET …/status/{s}/jobs
GET …/type/{t}/jobs · GET …/pending/all · GET …/running/all · GET …/completed/all
GET …/failed/all · GET …/cancelled/all · GET …/stats/overview · GET …/user/{u}/stats
GET …/queue/stats · POST …/queue/process · POST /api/v1/comfyui/generate
GET /api/v1/comfyui/{id} · GET /api/v1/comfyui/ · DELETE /api/v1/comfyui/{id}
GET /api/v1/comfyui/models/ · POST /api/v1/comfyui/models/refresh · WS /ws/jobs/{id}
"""


@dataclass(frozen=True, slots=True)
class Example:
    """A request of the page, and the status it must be answered with."""

    line: int
    rpc: MethodDescriptor
    body: str
    status: str


def examples() -> list[Example]:
    found = []
    for number, line in enumerate(PAGE.read_text(encoding="utf-8").splitlines(), 1):
        cells = line.removeprefix("|").removesuffix("|").split(" | ")
        if not line.startswith("| ") or cells[0].strip() == "old":
            continue
        _, new, request = cells
        rpc = re.search(r"\[(\w+)\]\(api\.md#\1\)", new)
        if rpc is None:
            assert new.strip().startswith("nothing"), line
            continue
        body, status = re.fullmatch(r"`(\{.*\})`(?: → ([A-Z_]+))?", request.strip()).groups()  # type: ignore[union-attr]
        found.append(Example(number, RPCS[rpc[1]], body, status or "OK"))
    return found


def test_every_route_is_there() -> None:
    routes = set(re.findall(r"^\| `([^`]+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert {route for line in ROUTES.split("\n") for route in line.split(" · ") if route} <= routes


async def test_every_example_is_answered_as_the_page_says(
    channel: grpc.aio.Channel, client: ProtocolClient, worker: ProtocolWorker
) -> None:
    await the_jobs_of_the_page(client, worker)
    given = examples()
    assert len(given) > 35

    answered = {(one.line, one.rpc.name, one.body): await answer(channel, one) for one in given}

    said = {(one.line, one.rpc.name, one.body): one.status for one in given}
    assert answered == said


async def the_jobs_of_the_page(client: ProtocolClient, worker: ProtocolWorker) -> None:
    """1 pending, 2 running, 3 completed with artifact 1, 4 failed, 5 pending."""
    ids = [(await client.create(user_id=USER, priority=n)).id for n in (0, 3, 2, 1, 0)]
    assert ids == [1, 2, 3, 4, 5]
    running, completed, failed = await worker.lease(3)
    assert [lease.job_id for lease in (running, completed, failed)] == [2, 3, 4]
    picture = await worker.upload(completed, b"a picture")
    assert picture.id == 1
    await worker.complete(completed, picture)
    await worker.fail(failed, job_error_pb2.ERROR_CODE_MODEL_NOT_FOUND)
    assert (await client.get(1)).status == PENDING
    assert (await client.get(2)).status == RUNNING
    assert (await client.get(4)).status == FAILED


async def answer(channel: grpc.aio.Channel, example: Example) -> str:
    """Send the example; the name of the status. Of a stream, the first message is read."""
    rpc = example.rpc
    request = json_format.Parse(example.body, GetMessageClass(rpc.input_type)())
    answers: Any = GetMessageClass(rpc.output_type)
    path = f"/{rpc.containing_service.full_name}/{rpc.name}"
    encode, decode = type(request).SerializeToString, answers.FromString
    try:
        if rpc.server_streaming:
            stream = channel.unary_stream(path, encode, decode)(request, timeout=20)
            async for _ in stream:
                stream.cancel()
                break
        else:
            await channel.unary_unary(path, encode, decode)(request, timeout=20)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


@pytest.mark.parametrize("example", examples(), ids=lambda one: f"{one.rpc.name}-{one.line}")
def test_every_example_is_a_message_of_the_contract(example: Example) -> None:
    json_format.Parse(example.body, GetMessageClass(example.rpc.input_type)())
