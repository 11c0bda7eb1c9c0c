"""Those who attack: each sends one request, or what passes for one, and says how it ended."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from tests.every_method import METHODS, path_of, start_call
from tests.fuzz import raw_http2
from tests.fuzz.frame_attacks import ATTACKS
from tests.fuzz.hostile_messages import HostileMessages, broken
from tests.jobs_protocol import refusal

#: Calls that are held for as long as nothing happens.
_HELD: Final = frozenset({"LeaseJobs", "Heartbeat", "WatchJob", "WatchJobs"})
_READING: Final = [method for method in METHODS if method.server_streaming]
_UPLOADING: Final = [method for method in METHODS if method.client_streaming]
#: A call that takes longer hangs.
_PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attack, and how it ended: statuses by name, of every call that was answered."""

    kind: str
    what: str
    statuses: tuple[str, ...]
    #: What is wrong with how it ended.
    complaint: str = ""


Planned: TypeAlias = Callable[[], Awaitable[Attempt]]


class Attackers:
    """Attacks on one service; what they send is decided by the random numbers alone."""

    def __init__(self, channel: grpc.aio.Channel, address: str) -> None:
        self._channel = channel
        self._address = address

    def plan(self, random: Random, messages: HostileMessages) -> Planned:
        """Decide what to do; doing it takes no more random numbers."""
        (attack,) = random.choices(list(_WEIGHTS), list(_WEIGHTS.values()))
        planned: Planned = attack(self, random, messages)
        return planned

    def _hostile(self, random: Random, messages: HostileMessages) -> Planned:
        method = random.choice(METHODS)
        sent = messages.requests(method)
        return lambda: self._call("hostile values", method, sent)

    def _broken(self, random: Random, messages: HostileMessages) -> Planned:
        method = random.choice(METHODS)
        sent = [broken(random, one.SerializeToString()) for one in messages.requests(method)]
        return lambda: self._call("broken protobuf", method, sent)

    def _metadata(self, random: Random, messages: HostileMessages) -> Planned:
        method = random.choice(METHODS)
        sent = messages.requests(method)
        size = random.choice((10, 1_000, 7_000, 40_000))
        names = random.choice((["x"], ["authorization"], [f"x-{n}" for n in range(100)]))
        metadata: list[tuple[str, str | bytes]] = [
            (name, "y" * (size // len(names))) for name in names
        ]
        metadata += [("x-bin", random.randbytes(size // 4)), ("x-on-behalf-of", "~ {}")]
        return lambda: self._call("metadata", method, sent, tuple(metadata))

    def _frames(self, random: Random, messages: HostileMessages) -> Planned:
        attack, method = random.choice(ATTACKS), random.choice(METHODS)
        raw = messages.message(method.input_type).SerializeToString()
        data = attack(random, path_of(method), raw)
        cut = random.randrange(len(data)) if random.random() < 0.1 else len(data)
        what = f"{attack.__name__} {method.name}"
        return lambda: self._raw("frames", what, data[:cut], reset=cut < len(data))

    def _abandoned(self, random: Random, messages: HostileMessages) -> Planned:
        method, after = random.choice(METHODS), random.choice((0.0, 0.001, 0.01, 0.05))
        sent = messages.requests(method)

        async def abandon() -> Attempt:
            call = start_call(self._channel, method, sent, timeout=_PATIENCE)
            await asyncio.sleep(after)
            call.cancel()
            return Attempt("abandoned streams", method.name, ())

        return abandon

    def _slow_reader(self, random: Random, messages: HostileMessages) -> Planned:
        """A window of one byte, or none, and no word of when there will be more."""
        method = random.choice(_READING)
        raw = messages.message(method.input_type).SerializeToString()
        data = (
            raw_http2.PREFACE
            + raw_http2.settings({4: random.choice((0, 1, 100))})
            + raw_http2.opened(1, raw_http2.call_headers(path_of(method)))
            + raw_http2.sent(1, raw_http2.message(raw))
        )
        reset = random.random() < 0.5
        return lambda: self._raw("slow readers", method.name, data, reset=reset)

    def _half_open(self, random: Random, messages: HostileMessages) -> Planned:
        """An upload that stops in the middle, and is left or broken off some time later."""
        method, later = random.choice(_UPLOADING), random.choice((0.01, 0.1, 0.3))
        sent = messages.requests(method)
        given_up = asyncio.Event()

        async def half() -> AsyncIterator[Message | bytes]:
            for one in sent:
                yield one
            await given_up.wait()

        async def upload() -> Attempt:
            call = start_call(self._channel, method, half(), timeout=_PATIENCE)
            await asyncio.wait([asyncio.ensure_future(call.code())], timeout=later)
            call.cancel()
            given_up.set()
            return Attempt("half-open uploads", method.name, ())

        return upload

    async def _call(
        self,
        kind: str,
        method: MethodDescriptor,
        sent: Sequence[Message | bytes],
        metadata: tuple[tuple[str, str | bytes], ...] = (),
    ) -> Attempt:
        held = method.name in _HELD
        call = start_call(
            self._channel,
            method,
            sent,
            timeout=0.5 if held else _PATIENCE,
            metadata=metadata,
        )
        complaint = ""
        try:
            if method.server_streaming:
                await _read_some(call)
            else:
                await call
            status = grpc.StatusCode.OK
        except grpc.aio.AioRpcError as error:
            status = error.code()
            complaint = _complaint(error, held=held, transport=kind == "metadata")
        what = f"{method.name}({sent!r:.2000})" if complaint else method.name
        return Attempt(kind, what, (status.name,), complaint)

    async def _raw(self, kind: str, what: str, data: bytes, *, reset: bool) -> Attempt:
        async with raw_http2.RawConnection(self._address) as connection:
            await connection.send(data)
            if reset:
                connection.reset()
                return Attempt(kind, what, ())
            await connection.read(0.3)
        statuses = []
        complaint = ""
        for headers in connection.headers:
            code = headers.get("grpc-status")
            if code is not None:
                statuses.append(_NAMES.get(code, f"no status: {code}"))
                said = headers.get("grpc-message", "")
                if statuses[-1] in _FAILURES and not _OF_THE_TRANSPORT.match(unquote(said)):
                    complaint = f"{statuses[-1]}: {said}"
        return Attempt(kind, what, tuple(statuses), complaint)


_WEIGHTS: Final[dict[Any, int]] = {
    Attackers._hostile: 700,
    Attackers._broken: 150,
    Attackers._metadata: 40,
    Attackers._frames: 60,
    Attackers._abandoned: 25,
    Attackers._slow_reader: 12,
    Attackers._half_open: 13,
}
_NAMES: Final = {str(code.value[0]): code.name for code in grpc.StatusCode}
_FAILURES: Final = frozenset({"INTERNAL", "UNKNOWN"})
#: What gRPC itself says of headers that are none. It is INTERNAL as its specification wants it, and
#: it is said while they are read: there is no call yet, and no handler has seen anything.
_OF_THE_TRANSPORT: Final = re.compile(
    r"Failed parsing HTTP/2 |Illegal header |Error parsing '.*' metadata"
    r"|Metadata keys cannot be zero length"
)


async def _read_some(call: Any) -> None:
    count = 0
    async for _ in call:
        count += 1
        if count == 3:
            call.cancel()
            return


def _complaint(error: grpc.aio.AioRpcError, *, held: bool, transport: bool) -> str:
    """What is wrong with an error; nothing, when it says what is wrong with the request."""
    code = error.code()
    if held and code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ""
    if transport and code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return ""  # for the size of its headers, by the transport
    if code in _BAD:
        return f"{code.name}: {error.details()}"
    try:
        said = refusal(error)
    except AssertionError as wrong:
        return f"{code.name} without details: {wrong}"
    if said.details_bytes > 4096:
        return f"{said.details_bytes} bytes of details"
    return ""


_BAD: Final = frozenset(
    {
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNAVAILABLE,
    }
)
