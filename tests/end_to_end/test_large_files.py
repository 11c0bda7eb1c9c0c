"""Large files pass through job_service in little memory."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import grpc
import psutil
import pytest
from generation_jobs.v1 import artifact_pb2
from generation_jobs.v1 import worker_service_pb2 as pb
from generation_jobs.v1.generation_job_service_pb2 import ReadArtifactRequest

from tests.end_to_end.real_processes import RealProcess, free_address, serving
from tests.jobs_protocol import COMPLETED, ProtocolClient
from tests.worker_protocol import ProtocolWorker, ref

CHUNK: Final = 256 * 1024
CHUNKS: Final = 800
#: Two parts of the store's, what the transport holds, and what the allocator keeps.
MOST_GROWTH: Final = 64 * 1024**2


class _Measured(RealProcess):
    def memory(self) -> int:
        """Bytes of its resident memory."""
        assert self._process is not None
        return int(psutil.Process(self._process.pid).memory_info().rss)


def _film() -> Iterator[bytes]:
    """200 MiB, no two chunks alike."""
    block = hashlib.sha256(b"film").digest() * (CHUNK // 32)
    for n in range(CHUNKS):
        yield n.to_bytes(8, "big") + block[8:]


@pytest.mark.heavy
async def test_two_hundred_megabytes_go_in_and_out_in_bounded_memory(
    database_url: str, tmp_path: Path
) -> None:
    address = free_address()
    service = _Measured(
        ["job-service", "serve"],
        tmp_path / "service.log",
        JOB_SERVICE_DATABASE_URL=database_url,
        JOB_SERVICE_DATA_DIR=str(tmp_path / "data"),
        JOB_SERVICE_LISTEN=address,
    )
    digest = hashlib.sha256()
    for chunk in _film():
        digest.update(chunk)
    async with AsyncExitStack() as stack:
        await serving(stack, service, address)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
        client, worker = ProtocolClient(channel), ProtocolWorker(channel)
        await worker.report_catalogue()
        await client.create()
        lease = await worker.lease_one()
        await worker.upload(lease, bytes(8 * CHUNK), position=1)  # what it needs at all
        before = peak = service.memory()

        async def upload() -> AsyncIterator[pb.UploadArtifactRequest]:
            nonlocal peak
            header = pb.ArtifactHeader(
                lease=ref(lease),
                role=artifact_pb2.ARTIFACT_ROLE_OUTPUT,
                filename="film.mp4",
                content_type="video/mp4",
                size=CHUNK * CHUNKS,
                sha256=digest.digest(),
            )
            yield pb.UploadArtifactRequest(header=header)
            for n, chunk in enumerate(_film()):
                yield pb.UploadArtifactRequest(chunk=chunk)
                if n % 10 == 9:
                    peak = max(peak, service.memory())

        async with asyncio.timeout(100):
            answer = await worker.stub.UploadArtifact(upload())
            assert await worker.complete(lease, answer.artifact) == COMPLETED
            peak = max(peak, service.memory())
            uploading = peak - before

            read = hashlib.sha256()
            (artifact, _) = (await client.get(lease.job_id)).artifacts
            async for message in client.stub.ReadArtifact(
                ReadArtifactRequest(artifact_id=artifact.id)
            ):
                read.update(message.chunk)
                peak = max(peak, service.memory())
    assert artifact.size == CHUNK * CHUNKS
    assert read.digest() == digest.digest()
    print(f"growth: {uploading / 1024**2:.0f} MiB in, {(peak - before) / 1024**2:.0f} MiB in all")
    assert peak - before < MOST_GROWTH
