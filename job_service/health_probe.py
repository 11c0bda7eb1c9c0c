"""Asks a running job_service whether it serves: ``python -m job_service.health_probe [ADDRESS]``.

For container health checks and for whoever has just started one.
"""

import asyncio
import sys
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

DEFAULT_ADDRESS = "127.0.0.1:50051"
PATIENCE_SECONDS = 3
# Until the service listens each try fails at once, so tries may follow each other closely.
CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)


async def wait_until_serving(address: str) -> None:
    """Wait, for ever if need be, until the service at ``address`` says that it serves."""
    async with grpc.aio.insecure_channel(address, CHANNEL_OPTIONS) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        while True:
            watch = health.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
            try:
                async for answer in watch:
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise


def main() -> None:
    """Exit with 0 when the service serves within a few seconds, with 1 when it does not."""
    address = sys.argv[1] if len(sys.argv) > 1 else DEFAULT_ADDRESS
    try:
        asyncio.run(asyncio.wait_for(wait_until_serving(address), PATIENCE_SECONDS))
    except (TimeoutError, grpc.aio.AioRpcError):
        sys.exit(f"{address} does not serve")


if __name__ == "__main__":
    main()
