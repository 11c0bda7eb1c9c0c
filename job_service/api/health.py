"""grpc.health.v1: SERVING while the database can be reached and the replica is not stopping."""

from collections.abc import Sequence

from grpc_health.v1 import health, health_pb2

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """The health of each service and, under the empty name, of the whole replica."""

    def __init__(self, services: Sequence[str]) -> None:
        self.servicer = health.aio.HealthServicer()
        self._services = ("", *services)
        self._reachable: bool | None = None
        self.is_stopping = False

    async def database(self, reachable: bool) -> None:
        """Note whether the database can be reached."""
        if reachable == self._reachable:
            return
        self._reachable = reachable
        for service in self._services:
            await self.servicer.set(service, _SERVING if reachable else _NOT_SERVING)

    async def stopping(self) -> None:
        """Say NOT_SERVING from now on, so that balancers send calls elsewhere."""
        self.is_stopping = True
        await self.servicer.enter_graceful_shutdown()
