"""Times, durations and sizes as people read them."""

from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from rich.filesize import decimal


def size(count: int) -> str:
    """Answer bytes as "1.3 MB"."""
    return decimal(count)


def counted(count: int, noun: str) -> str:
    """Answer "1 job" or "1,200 jobs"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def pixels(width: int, height: int) -> str:
    """Answer the size of a picture as "832x1216"."""
    return f"{width}x{height}"


def seconds_of(length: Duration) -> float:
    """Answer a length of time in seconds."""
    return length.seconds + length.nanos / 1e9


def duration(seconds: float) -> str:
    """Answer a length of time as "4.2 s", "48 s", "2 min 05 s", "1 h 02 min" or "3 d 4 h"."""
    seconds = max(seconds, 0.0)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02} min"
    return f"{hours // 24} d {hours % 24} h"


def age(moment: Timestamp, now: datetime) -> str:
    """Answer how long ago (or until) ``moment`` is, to one unit: "5 min ago", "in 2 h"."""
    distance = (now - moment_of(moment)).total_seconds()
    if abs(distance) < 2:
        return "just now"
    length = _one_unit(abs(distance))
    return f"{length} ago" if distance > 0 else f"in {length}"


def local_time(moment: Timestamp) -> str:
    """Answer ``moment`` in the local time zone, to the second."""
    return moment_of(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def between(start: Timestamp, end: Timestamp) -> str:
    """Answer the length of time from ``start`` to ``end``."""
    return duration((moment_of(end) - moment_of(start)).total_seconds())


def moment_of(moment: Timestamp) -> datetime:
    """Answer ``moment`` to the microsecond, in UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
        seconds=moment.seconds, microseconds=moment.nanos // 1000
    )


def _one_unit(seconds: float) -> str:
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"
