"""A worker moved by hand that also makes whole jobs: renders nothing, stores what it is given."""

import asyncio

import grpc
from generation_jobs.v1.artifact_pb2 import ArtifactRole
from generation_jobs.v1.worker_service_pb2 import Lease

from tests.worker_protocol import CHECKPOINT, ProtocolWorker, seconds

__all__ = ["CHECKPOINT", "HandWorker"]


class HandWorker(ProtocolWorker):
    """Offers one slot and ``CHECKPOINT``."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        super().__init__(channel, "hand", backends=["gpu"], slots=1)

    async def make(self, *pictures: bytes) -> Lease:
        """Run the next job: two steps, then these pictures, each with a thumbnail."""
        lease = await self.lease_one()
        for step in (1, 2):
            await self.progress(lease, step / 2, step=step, steps=2, node_class="KSampler")
        artifacts = []
        for position, content in enumerate(pictures):
            artifacts.append(await self.upload(lease, content, position=position))
            thumbnail = await self.upload(
                lease,
                content[:10],
                position=position,
                role=ArtifactRole.ARTIFACT_ROLE_THUMBNAIL,
                thumbnail_size=150,
                filename="picture.webp",
                content_type="image/webp",
            )
            artifacts.append(thumbnail)
        await self.complete(lease, *artifacts, running_for=seconds(2))
        return lease

    def making(self, *pictures: bytes) -> "asyncio.Task[Lease]":
        """Do ``make`` meanwhile."""
        return asyncio.create_task(self.make(*pictures))
