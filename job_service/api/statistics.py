"""GetJobStats: what a client asks, and the rows it gets."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_error_pb2

from job_service.api.encode import duration
from job_service.jobs.fields import FieldChecks
from job_service.jobs.states import STATUS_TO_WIRE, TYPE_TO_WIRE
from job_service.store.job_stats import Dimension, GroupValue, JobStatsRow, Quantiles

_DIMENSIONS: Final[Mapping[int, Dimension]] = {
    pb.STATS_DIMENSION_STATUS: Dimension.STATUS,
    pb.STATS_DIMENSION_JOB_TYPE: Dimension.JOB_TYPE,
    pb.STATS_DIMENSION_USER: Dimension.USER_ID,
    pb.STATS_DIMENSION_CHECKPOINT: Dimension.CHECKPOINT_MODEL,
    pb.STATS_DIMENSION_ERROR_CODE: Dimension.ERROR_CODE,
    pb.STATS_DIMENSION_TIME_BUCKET: Dimension.BUCKET_START,
    pb.STATS_DIMENSION_HOUR_OF_DAY: Dimension.HOUR_OF_DAY,
}
_ERROR_CODES: Final = frozenset(job_error_pb2.ErrorCode.keys())
_SHORTEST: Final = timedelta(minutes=1)
_LONGEST: Final = timedelta(days=90)
_DEFAULT: Final = timedelta(days=1)


def grouping(
    checks: FieldChecks, request: pb.GetJobStatsRequest
) -> tuple[list[Dimension], timedelta]:
    """By what the rows are grouped, and how wide a time bucket is."""
    dimensions: list[Dimension] = []
    for n, wanted in enumerate(request.group_by[: len(_DIMENSIONS) + 1]):
        dimension = _DIMENSIONS.get(wanted)
        if dimension is None:
            checks.wrong(f"group_by[{n}]", f"has the unknown value {wanted}")
        elif dimension in dimensions:
            checks.wrong(f"group_by[{n}]", "is there already")
        else:
            dimensions.append(dimension)
    interval = _DEFAULT
    if request.HasField("interval"):
        interval = checks.duration("interval", request.interval, low=_SHORTEST, high=_LONGEST)
    return dimensions, interval


def stats_message(row: JobStatsRow) -> pb.JobStats:
    """One group as clients see it."""
    stats = pb.JobStats(
        total=row.total, completed=row.completed, failed=row.failed, cancelled=row.cancelled
    )
    decided = row.completed + row.failed
    if decided:
        stats.success_rate = row.completed / decided
    if row.waiting is not None:
        stats.waiting.CopyFrom(_quantiles_message(row.waiting))
    if row.running is not None:
        stats.running.CopyFrom(_quantiles_message(row.running))
    if row.storage is not None:
        stats.artifact_count = row.storage.artifact_count
        stats.artifact_bytes = row.storage.artifact_bytes
    for column, value in row.group.items():
        _set_group(stats, column, value)
    return stats


def _set_group(stats: pb.JobStats, column: str, value: GroupValue) -> None:
    """Say which group the row is about; what this version has no word for stays unset."""
    match column, value:
        case "status", str():
            stats.status = STATUS_TO_WIRE[value]
        case "job_type", str():
            stats.job_type = TYPE_TO_WIRE[value]
        case "error_code", str() if value in _ERROR_CODES:
            stats.error_code = job_error_pb2.ErrorCode.Value(value)
        case "bucket_start", datetime():
            stats.bucket_start.FromDatetime(value)
        case "hour_of_day", int():
            stats.hour_of_day = value
        case "user_id" | "checkpoint_model", _ if value is not None:
            setattr(stats, column, str(value))


def _quantiles_message(quantiles: Quantiles) -> pb.DurationQuantiles:
    return pb.DurationQuantiles(
        mean=duration(timedelta(seconds=quantiles.mean)),
        p50=duration(timedelta(seconds=quantiles.p50)),
        p95=duration(timedelta(seconds=quantiles.p95)),
        p99=duration(timedelta(seconds=quantiles.p99)),
    )
