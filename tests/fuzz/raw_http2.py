"""HTTP/2 as no client speaks it: frames by hand over a bare socket."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterable, Mapping
from typing import Final, Self

from hpack import Decoder, HPACKError

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = range(5)
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(5, 10)
END_STREAM: Final = 1
END_HEADERS: Final = 4
PADDED: Final = 8

Header = tuple[str | bytes, str | bytes]


def frame(
    kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0, length: int | None = None
) -> bytes:
    """A frame; ``length`` other than the payload's makes it a lie."""
    said = len(payload) if length is None else length
    return struct.pack(">I", said)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(values: Mapping[int, int] | None = None) -> bytes:
    """A SETTINGS frame."""
    packed = (struct.pack(">HI", key, value) for key, value in (values or {}).items())
    return frame(SETTINGS, b"".join(packed))


def literal(headers: Iterable[Header]) -> bytes:
    """A header block without compression, whatever is in the headers."""
    return b"".join(b"\x00" + _string(name) + _string(value) for name, value in headers)


def _string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    if len(raw) < 127:
        return bytes([len(raw)]) + raw
    rest, length = len(raw) - 127, bytearray([127])
    while rest >= 128:
        length.append(rest % 128 + 128)
        rest //= 128
    return bytes([*length, rest]) + raw


def call_headers(path: str | bytes, *more: Header, authority: str = "x") -> list[Header]:
    """The headers of a gRPC call."""
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *more,
    ]


def opened(stream: int, headers: Iterable[Header], *, flags: int = END_HEADERS) -> bytes:
    """A HEADERS frame."""
    return frame(HEADERS, literal(headers), flags=flags, stream=stream)


def message(raw: bytes, *, compressed: int = 0, length: int | None = None) -> bytes:
    """A gRPC message with its prefix."""
    return struct.pack(">BI", compressed, len(raw) if length is None else length) + raw


def sent(stream: int, raw: bytes, *, end: bool = True) -> bytes:
    """DATA frames."""
    parts = [raw[at : at + 16_384] for at in range(0, len(raw), 16_384)] or [b""]
    return b"".join(
        frame(DATA, part, flags=END_STREAM if end and part is parts[-1] else 0, stream=stream)
        for part in parts
    )


class RawConnection:
    """A connection on which anything may be sent."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._decoder = Decoder()
        #: Headers of the answers, trailers among them.
        self.headers: list[dict[str, str]] = []
        #: PINGs that came, none of which is answered.
        self.pings = 0

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        self.port: int = self._writer.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def send(self, raw: bytes) -> bool:
        """Send bytes; False: the service no longer takes any."""
        try:
            self._writer.write(raw)
            async with asyncio.timeout(1):
                await self._writer.drain()
        except (OSError, TimeoutError):
            return False
        return True

    def reset(self) -> None:
        """Break the connection without a word."""
        bare = self._writer.get_extra_info("socket")
        bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def read(self, seconds: float) -> None:
        """Read answers until a trailer has come, the connection ends, or time is up."""
        with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
            async with asyncio.timeout(seconds):
                while not (self.headers and "grpc-status" in self.headers[-1]):
                    await self.read_frame()

    async def read_frame(self) -> None:
        """Read one frame; raises IncompleteReadError at the connection's end."""
        head = await self._reader.readexactly(9)
        payload = await self._reader.readexactly(int.from_bytes(head[:3]))
        if head[3] == PING and not head[4]:
            self.pings += 1
        elif head[3] == HEADERS:
            with contextlib.suppress(HPACKError):
                decoded = self._decoder.decode(payload, raw=True)
                self.headers.append(
                    {name.decode(): value.decode("latin-1") for name, value in decoded}
                )
