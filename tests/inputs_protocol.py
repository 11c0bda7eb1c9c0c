"""Pictures, how clients upload them and workers read them."""

import io
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

import grpc
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import generation_job_service_pb2_grpc, worker_service_pb2
from generation_jobs.v1.artifact_pb2 import InputAsset
from PIL import Image

from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker, ref

if TYPE_CHECKING:
    from generation_jobs.v1.generation_job_service_pb2_grpc import GenerationJobServiceAsyncStub

CHUNK = 256 * 1024


def picture(
    kind: str = "PNG", size: tuple[int, int] = (64, 40), colour: str = "teal", **options: Any
) -> bytes:
    """An encoded picture of one colour."""
    target = io.BytesIO()
    Image.new("RGB", size, colour).save(target, kind, **options)
    return target.getvalue()


def noise(size: tuple[int, int]) -> bytes:
    """A picture that no encoding makes smaller: three bytes a pixel and more."""
    target = io.BytesIO()
    channels = [Image.effect_noise(size, 100) for _ in range(3)]
    Image.merge("RGB", channels).save(target, "PNG", compress_level=0)
    return target.getvalue()


class InputClient:
    """Uploads pictures."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub: GenerationJobServiceAsyncStub = (
            generation_job_service_pb2_grpc.GenerationJobServiceStub(channel)
        )

    async def upload(
        self,
        content: bytes,
        filename: str = "picture.png",
        *,
        user_id: str = "",
        chunk: int = CHUNK,
    ) -> InputAsset:
        header = pb.InputHeader(filename=filename, user_id=user_id)
        return await self.send(
            pb.UploadInputRequest(header=header),
            *(
                pb.UploadInputRequest(chunk=content[start : start + chunk])
                for start in range(0, len(content), chunk)
            ),
        )

    async def send(self, *messages: pb.UploadInputRequest) -> InputAsset:
        """UploadInput with these messages."""
        return (await self.stub.UploadInput(_stream(messages), timeout=60)).input


async def _stream(
    messages: Iterable[pb.UploadInputRequest],
) -> AsyncIterator[pb.UploadInputRequest]:
    for message in messages:
        yield message


async def read_input(
    worker: ProtocolWorker, lease: worker_service_pb2.Lease, input_id: int
) -> tuple[InputAsset, list[bytes]]:
    """What an input of a leased job is, and its chunks."""
    request = worker_service_pb2.ReadInputRequest(lease=ref(lease), input_id=input_id)
    first, *others = [message async for message in worker.stub.ReadInput(request, timeout=60)]
    assert first.WhichOneof("content") == "input"
    assert all(message.WhichOneof("content") == "chunk" for message in others)
    return first.input, [message.chunk for message in others]


async def bind(sql: Sql, job_id: int, **inputs: int) -> None:
    """Have a stored job start from inputs: name = id."""
    bindings = ", ".join(
        f'{{"name": "{name}", "input_id": {input_id}}}' for name, input_id in inputs.items()
    )
    await sql.execute(
        "UPDATE generation_jobs SET inputs = %s::jsonb WHERE id = %s", [f"[{bindings}]", job_id]
    )
