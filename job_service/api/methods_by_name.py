"""How servicers are handed to gRPC's server."""

from collections.abc import Mapping, Sequence
from typing import cast

import grpc

from job_service.api.rpc_handler import Handler


def methods_by_name(server: grpc.aio.Server) -> grpc.aio.Server:
    """What takes servicers for ``server`` so that it finds their methods by name at each call.

    Generated code also registers every method. For each of them the server then waits by a task of
    its own, and every call costs to wait for dozens of tasks at once: as long as half its dispatch.
    """
    return cast("grpc.aio.Server", _ByName(server))


class _ByName:
    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, Handler]
    ) -> None:
        """Nothing: the generic handlers have the same methods."""
