"""What a connection may be sent that is no HTTP/2, no gRPC, or too much of either."""

import gzip
from collections.abc import Callable
from random import Random
from typing import Final

from tests.fuzz import raw_http2 as h2

Attack = Callable[[Random, str, bytes], bytes]


def _garbage(random: Random, _path: str, _raw: bytes) -> bytes:
    start = random.choice((b"", h2.PREFACE, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00"))
    return start + random.randbytes(random.randrange(2_000))


def _random_frames(random: Random, path: str, raw: bytes) -> bytes:
    frames = [h2.PREFACE, h2.settings()]
    if random.random() < 0.5:
        frames.append(h2.opened(1, h2.call_headers(path)))
    frames += [
        h2.frame(
            random.randrange(16),
            random.choice((b"", raw[:200], random.randbytes(random.randrange(40)))),
            flags=random.randrange(256),
            stream=random.choice((0, 1, 1, 2, 3, 2**31 - 1, 2**32 - 1)),
        )
        for _ in range(random.randrange(1, 12))
    ]
    return b"".join(frames)


def _call(path: str, body: bytes, *headers: h2.Header, end: bool = True) -> bytes:
    return (
        h2.PREFACE
        + h2.settings()
        + h2.opened(1, h2.call_headers(path, *headers))
        + h2.sent(1, body, end=end)
    )


def _broken_prefix(random: Random, path: str, raw: bytes) -> bytes:
    body = random.choice(
        (
            h2.message(raw, length=len(raw) + random.randint(1, 100)),
            h2.message(raw, length=max(0, len(raw) - random.randint(1, 100))),
            h2.message(raw, length=2**32 - 1),
            h2.message(raw, compressed=random.randint(1, 255)),
            h2.message(raw)[: random.randrange(5)],
            h2.message(raw) * random.randint(2, 9),
            b"",
        )
    )
    return _call(path, body)


def _lying_frames(random: Random, path: str, raw: bytes) -> bytes:
    stream = random.choice((0, 1, 2, 3))
    lie = random.choice(
        (
            h2.frame(h2.SETTINGS, b"12345"),
            h2.frame(h2.SETTINGS, b"", flags=1, length=6),
            h2.frame(h2.PING, b"1234567"),
            h2.frame(h2.WINDOW_UPDATE, b"\x00" * 4, stream=stream),
            h2.frame(h2.WINDOW_UPDATE, b"\x7f\xff\xff\xff", stream=stream) * 2,
            h2.frame(h2.RST_STREAM, b"\x00\x00\x00\x08", stream=9),
            h2.frame(h2.RST_STREAM, b"\x00", stream=1),
            h2.frame(h2.PRIORITY, b"\x00\x00\x00\x01\xff", stream=1),
            h2.frame(h2.GOAWAY, b"\xff" * 8),
            h2.frame(h2.DATA, b"\xff" + raw[:100], flags=h2.PADDED, stream=1),
            h2.frame(h2.DATA, b"x", stream=1, length=2**24 - 1),
            h2.frame(h2.HEADERS, b"", flags=h2.PADDED, stream=5),
            h2.frame(h2.PUSH_PROMISE, b"\x00\x00\x00\x02", stream=1),
            h2.settings({4: 2**32 - 1}),
            h2.settings({5: 0}),
            h2.settings({1: 2**32 - 1, 3: 0, 4: 0, 6: 0}),
        )
    )
    return (
        h2.PREFACE
        + h2.settings()
        + h2.opened(1, h2.call_headers(path))
        + lie
        + h2.sent(1, h2.message(raw))
    )


def _continuations(random: Random, path: str, raw: bytes) -> bytes:
    block = h2.literal(h2.call_headers(path, ("x", "y" * random.choice((1, 50, 5_000)))))
    half = len(block) // 2
    end = random.choice((0, h2.END_HEADERS))
    return (
        h2.PREFACE
        + h2.settings()
        + random.choice((h2.frame(h2.HEADERS, block[:half], stream=1), b""))
        + h2.frame(h2.CONTINUATION, block[half : half + 5], stream=1)
        * random.choice((1, 1, 50, 2_000))
        + random.choice((b"", h2.sent(1, h2.message(raw))))
        + h2.frame(h2.CONTINUATION, block[half:], flags=end, stream=random.choice((1, 1, 3)))
    )


def _broken_hpack(random: Random, path: str, _raw: bytes) -> bytes:
    block = random.choice(
        (
            b"\x80",
            b"\xff\xff\xff\xff\xff\x0f",
            b"\x3f\xff\xff\xff\xff\x0f",
            b"\x00\x7f\xff\xff\xff\x0f",
            b"\x00\x84\xff\xff\xff\xff\x01x",
            h2.literal(h2.call_headers(path))[:-5],
            random.randbytes(60),
        )
    )
    flags = h2.END_HEADERS | h2.END_STREAM
    return h2.PREFACE + h2.settings() + h2.frame(h2.HEADERS, block, flags=flags, stream=1)


def _rapid_resets(random: Random, path: str, raw: bytes) -> bytes:
    count = random.choice((10, 100, 400))
    return (
        h2.PREFACE
        + h2.settings()
        + b"".join(
            h2.opened(stream, h2.call_headers(path))
            + random.choice((b"", h2.sent(stream, h2.message(raw[:100]))))
            + h2.frame(h2.RST_STREAM, b"\x00\x00\x00\x08", stream=stream)
            for stream in range(1, 2 * count, 2)
        )
    )


def _floods(random: Random, path: str, raw: bytes) -> bytes:
    flood = random.choice(
        (
            h2.frame(h2.PING, b"12345678"),
            h2.settings({4: 65_535}),
            h2.frame(h2.PRIORITY, b"\x00\x00\x00\x00\x10", stream=3),
            h2.frame(h2.DATA, b"", stream=1),
            h2.frame(h2.WINDOW_UPDATE, b"\x00\x00\x00\x01", stream=0),
        )
    )
    start = h2.PREFACE + h2.settings() + h2.opened(1, h2.call_headers(path))
    return start + flood * random.choice((10, 300, 2_000)) + h2.sent(1, h2.message(raw))


def _odd_headers(random: Random, path: str, raw: bytes) -> bytes:
    headers = h2.call_headers(path)
    odd: list[h2.Header] = [
        ("grpc-timeout", random.choice(("99999999999H", "-1S", "x", "0n", "1m", "S", "9" * 500))),
        ("grpc-encoding", random.choice(("gzip", "deflate", "br", "x" * 500, ""))),
        ("grpc-accept-encoding", ",".join("abcdefgh") * 40),
        ("content-type", random.choice(("text/html", "application/grpc+json", "", "x" * 3_000))),
        ("X-UPPER", "case"),
        ("x-line", b"a\r\nb: c"),
        ("x-nul", b"a\x00b"),
        ("x-bytes", b"\xff\xfe\x80"),
        (
            "authorization",
            random.choice(("Bearer ", "Bearer " + "x" * 3_000, "Basic !!!", b"\xff")),
        ),
        ("x-on-behalf-of", random.choice(("", "x", "00000000-0000-0000-0000-000000000001"))),
        ("x-bin", "!!! not base64 !!!"),
        ("grpc-status", "0"),
        (":path", "/other"),
        (":unknown", "x"),
        ("", "no name"),
        ("connection", "close"),
        ("x-request-id", b"\x1b[2J\r\nforged"),
        ("content-length", "5"),
        ("user-agent", "\x1b[31m" + "x" * 2_000),
    ]
    headers += random.sample(odd, random.randint(1, 5))
    for _ in range(random.randrange(2)):
        headers.pop(random.randrange(len(headers)))
    if random.random() < 0.3:
        where = random.choice(
            ("/", "", "/x/y", "*", "//", path + "/", path.lower(), "/\x00", "\xff")
        )
        headers = [(name, where if name == ":path" else value) for name, value in headers]
    if random.random() < 0.2:
        verb = random.choice(("GET", "PUT", "CONNECT", ""))
        headers = [(name, verb if name == ":method" else value) for name, value in headers]
    start = h2.PREFACE + h2.settings() + h2.opened(1, headers)
    return start + h2.sent(1, h2.message(raw))


def _too_much_header(random: Random, path: str, raw: bytes) -> bytes:
    size = random.choice((7_000, 20_000, 200_000))
    many = random.choice(([("x", "y" * size)], [(f"x-{n}", "y" * 20) for n in range(size // 60)]))
    block = h2.literal([*h2.call_headers(path), *many])
    parts = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
    frames = [
        h2.frame(
            h2.CONTINUATION if n else h2.HEADERS,
            part,
            flags=h2.END_HEADERS if part is parts[-1] else 0,
            stream=1,
        )
        for n, part in enumerate(parts)
    ]
    return h2.PREFACE + h2.settings() + b"".join(frames) + h2.sent(1, h2.message(raw))


def _bomb(random: Random, path: str, _raw: bytes) -> bytes:
    packed = _BOMBS[random.randrange(len(_BOMBS))]
    return _call(path, h2.message(packed, compressed=1), ("grpc-encoding", "gzip"))


def _streams_left_open(random: Random, path: str, raw: bytes) -> bytes:
    count = random.choice((5, 50, 150))
    part = h2.message(raw)[: random.choice((0, 3, 5, len(raw) + 4))]
    return (
        h2.PREFACE
        + h2.settings()
        + b"".join(
            h2.opened(stream, h2.call_headers(path)) + h2.sent(stream, part, end=False)
            for stream in range(1, 2 * count, 2)
        )
    )


#: Zeros, compressed a thousandfold: in all 20 and 60 MiB.
_BOMBS: Final = [gzip.compress(bytes(size * 1024**2), 9) for size in (20, 60)]

ATTACKS: Final[tuple[Attack, ...]] = (
    _garbage,
    _random_frames,
    _broken_prefix,
    _lying_frames,
    _continuations,
    _broken_hpack,
    _rapid_resets,
    _floods,
    _odd_headers,
    _odd_headers,
    _too_much_header,
    _bomb,
    _streams_left_open,
)
