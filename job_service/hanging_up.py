"""Ending a server's connections so that calls on them are UNAVAILABLE to their clients.

A gRPC server that stops ends what arrives before the client has heard of it with CANCELLED, which
says that the caller gave up, and which nobody repeats. It cannot be told otherwise
(https://github.com/grpc/grpc/issues/41785). A call whose connection ends is UNAVAILABLE.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

#: The files this process has open, named by their descriptors.
_OPEN_FILES: Final = Path("/dev/fd")


def hang_up(port: int) -> None:
    """Take no more connections on this TCP port, and end those there are.

    What was written to them is still delivered. The sockets stay open for whoever owns them.
    """
    for listening in True, False:  # in this order, as clients connect again at once
        for one in _sockets():
            with one, suppress(OSError):  # the client has hung up
                if _port_of(one) == port and _listens(one) is listening:
                    one.shutdown(socket.SHUT_RD if listening else socket.SHUT_WR)


def _sockets() -> Iterator[socket.socket]:
    """Every socket of this process, by a descriptor that is to be closed."""
    for descriptor in list(_OPEN_FILES.iterdir()):
        try:
            again = os.dup(int(descriptor.name))
        except OSError:  # closed meanwhile
            continue
        try:
            yield socket.socket(fileno=again)
        except OSError:  # another kind of file
            os.close(again)


def _port_of(one: socket.socket) -> int | None:
    is_tcp = one.family in {socket.AF_INET, socket.AF_INET6} and one.type is socket.SOCK_STREAM
    return one.getsockname()[1] if is_tcp else None


def _listens(one: socket.socket) -> bool:
    return bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
