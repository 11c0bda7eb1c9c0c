"""Asks a running job_service whether it serves: ``python -m job_service.health_probe [ADDRESS]``.

For container health checks and for whoever has just started one. No token is needed; TLS is set as
for genjobs, by ``GENJOBS_TLS_CA``, ``…_CERT``, ``…_KEY`` and ``…_SERVER_NAME``.
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from job_service.client.channel import CredentialsError, Tls, open_channel

DEFAULT_ADDRESS = "127.0.0.1:50051"
PATIENCE_SECONDS = 3
# Until the service listens each try fails at once, so tries may follow each other closely.
CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)


async def wait_until_serving(address: str, tls: Tls | None = None) -> None:
    """Wait, for ever if need be, until the service at ``address`` says that it serves.

    Raises CredentialsError and OSError as ``open_channel`` does.
    """
    async with open_channel(address, tls=tls, options=CHANNEL_OPTIONS) as channel:
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
        serving = wait_until_serving(address, _tls(os.environ))
        asyncio.run(asyncio.wait_for(serving, PATIENCE_SECONDS))
    except (TimeoutError, grpc.aio.AioRpcError):
        sys.exit(f"{address} does not serve")
    except (CredentialsError, OSError) as error:
        sys.exit(f"cannot ask {address}: {error}")


def _tls(environment: Mapping[str, str]) -> Tls | None:
    def path(name: str) -> Path | None:
        value = environment.get(f"GENJOBS_TLS_{name}")
        return Path(value) if value else None

    name = environment.get("GENJOBS_TLS_SERVER_NAME") or None
    tls = Tls(ca=path("CA"), certificate=path("CERT"), key=path("KEY"), server_name=name)
    return tls if tls != Tls() else None


if __name__ == "__main__":
    main()
