"""A bare grpc.aio server: ``python -m … ADDRESS ANSWER_FILE``; runs until it is ended.

Its CreateJob decodes the request and answers the message in ANSWER_FILE: the same bytes over the
wire as job_service's, and nothing done for them.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import generation_job_service_pb2_grpc


class Echo(generation_job_service_pb2_grpc.GenerationJobServiceServicer):
    def __init__(self, answer: pb.CreateJobResponse) -> None:
        self._answer = answer

    async def CreateJob(  # noqa: N802  # named in the contract
        self, request: pb.CreateJobRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.CreateJobResponse:
        return self._answer


async def main(address: str, answer: Path) -> None:
    server = grpc.aio.server()
    generation_job_service_pb2_grpc.add_GenerationJobServiceServicer_to_server(
        Echo(pb.CreateJobResponse.FromString(answer.read_bytes())),  # type: ignore[abstract]
        server,
    )
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
