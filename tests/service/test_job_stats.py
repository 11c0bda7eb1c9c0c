"""GetJobStats: numbers that agree with a plain reading of the same jobs."""

import random
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from statistics import mean, quantiles
from typing import Any

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_error_pb2, job_pb2
from google.protobuf import timestamp_pb2
from psycopg.types.json import Jsonb

from job_service.jobs.states import STATUS_TO_WIRE
from tests.jobs_protocol import FAILED, ProtocolClient, in_an_hour, refused
from tests.service_fixture import Sql

#: A time at which a bucket of a day begins.
START = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=30)
USERS = [f"00000000-0000-0000-0000-00000000000{n}" for n in (2, 3)]


async def insert(sql: Sql, draw: random.Random, count: int) -> list[dict[str, Any]]:
    jobs = []
    for n in range(count):
        status = draw.choice(["pending", "completed", "completed", "failed", "cancelled"])
        created = START + timedelta(minutes=draw.randrange(3 * 24 * 60))
        started = created + timedelta(seconds=draw.randrange(1, 500))
        ended = started + timedelta(seconds=draw.randrange(1, 100))
        has_run = status in ("completed", "failed")
        jobs.append(
            {
                "id": n + 1,
                "user_id": draw.choice(USERS),
                "status": status,
                "checkpoint_model": draw.choice(["a", "b"]),
                "created_at": created,
                "started_at": started if has_run else None,
                "completed_at": None if status == "pending" else ended,
                "error": Jsonb({"code": "ERROR_CODE_OUT_OF_MEMORY"})
                if status == "failed"
                else None,
            }
        )
    async with sql.cursor() as cursor:
        await cursor.executemany(
            """
            INSERT INTO generation_jobs (
                id, user_id, status, checkpoint_model, created_at, started_at, completed_at,
                error, prompt, width, height, batch_size
            ) VALUES (
                %(id)s, %(user_id)s, %(status)s, %(checkpoint_model)s, %(created_at)s,
                %(started_at)s, %(completed_at)s, %(error)s, 'x', 64, 64, 1
            )
            """,
            jobs,
        )
    return jobs


async def stats(client: ProtocolClient, *group_by: Any, **fields: Any) -> list[pb.JobStats]:
    request = pb.GetJobStatsRequest(group_by=group_by, **fields)
    return list((await client.stub.GetJobStats(request, timeout=20)).rows)


def seconds(jobs: list[dict[str, Any]], since: str, until: str) -> list[float]:
    return [(job[until] - job[since]).total_seconds() for job in jobs if job[since] and job[until]]


def check_quantiles(found: pb.DurationQuantiles, values: list[float]) -> None:
    cuts = quantiles(values, n=100, method="inclusive")
    for name, expected in (
        ("mean", mean(values)),
        ("p50", cuts[49]),
        ("p95", cuts[94]),
        ("p99", cuts[98]),
    ):
        assert getattr(found, name).ToTimedelta().total_seconds() == pytest.approx(
            expected, abs=0.001
        )


async def test_an_empty_table_has_numbers_too(client: ProtocolClient) -> None:
    assert await stats(client) == [pb.JobStats()]
    assert await stats(client, pb.STATS_DIMENSION_STATUS) == []
    assert await stats(client, include_storage=True) == [
        pb.JobStats(artifact_count=0, artifact_bytes=0)
    ]
    assert await stats(client, pb.STATS_DIMENSION_USER, include_storage=True) == []


async def test_totals_success_rate_and_quantiles_agree_with_a_plain_reading(
    client: ProtocolClient, sql: Sql
) -> None:
    jobs = await insert(sql, random.Random(1), 300)
    (all_of_them,) = await stats(client)
    by_status = {status: sum(job["status"] == status for job in jobs) for status in STATUS_TO_WIRE}
    assert all_of_them.total == 300
    assert all_of_them.completed == by_status["completed"]
    assert all_of_them.failed == by_status["failed"]
    assert all_of_them.cancelled == by_status["cancelled"]
    assert all_of_them.success_rate == pytest.approx(
        by_status["completed"] / (by_status["completed"] + by_status["failed"])
    )
    check_quantiles(all_of_them.waiting, seconds(jobs, "created_at", "started_at"))
    check_quantiles(all_of_them.running, seconds(jobs, "started_at", "completed_at"))


async def test_rows_are_grouped_by_any_combination_and_filtered(
    client: ProtocolClient, sql: Sql
) -> None:
    jobs = await insert(sql, random.Random(2), 300)
    expected: dict[tuple[Any, ...], int] = defaultdict(int)
    for job in jobs:
        if job["user_id"] == USERS[0]:
            day = (job["created_at"] - START) // timedelta(days=1)
            expected[job["checkpoint_model"], day, STATUS_TO_WIRE[job["status"]]] += 1
    rows = await stats(
        client,
        pb.STATS_DIMENSION_CHECKPOINT,
        pb.STATS_DIMENSION_TIME_BUCKET,
        pb.STATS_DIMENSION_STATUS,
        filter=job_pb2.JobFilter(user_id=USERS[0]),
    )
    found = {
        (
            row.checkpoint_model,
            (row.bucket_start.ToDatetime(UTC) - START) // timedelta(days=1),
            row.status,
        ): row.total
        for row in rows
    }
    assert found == expected
    assert len(rows) == len(found)


async def test_users_error_codes_and_hours_are_dimensions_too(
    client: ProtocolClient, sql: Sql
) -> None:
    jobs = await insert(sql, random.Random(3), 200)
    users = await stats(client, pb.STATS_DIMENSION_USER)
    assert [row.user_id for row in users] == USERS
    assert sum(row.total for row in users) == 200
    codes = {
        row.error_code: row.total for row in await stats(client, pb.STATS_DIMENSION_ERROR_CODE)
    }
    assert codes[job_error_pb2.ERROR_CODE_OUT_OF_MEMORY] == sum(
        job["status"] == "failed" for job in jobs
    )
    hours = {
        row.hour_of_day: row.total for row in await stats(client, pb.STATS_DIMENSION_HOUR_OF_DAY)
    }
    for hour in range(24):
        assert hours.get(hour, 0) == sum(job["created_at"].hour == hour for job in jobs)


async def test_what_cannot_be_grouped_is_named(client: ProtocolClient) -> None:
    request = pb.GetJobStatsRequest(
        group_by=[pb.STATS_DIMENSION_STATUS, pb.STATS_DIMENSION_STATUS, 77]  # type: ignore[list-item]
    )
    request.interval.seconds = 1
    error = await refused(client.stub.GetJobStats(request, timeout=20))
    assert error.status is grpc.StatusCode.INVALID_ARGUMENT
    assert error.fields == ("group_by[1]", "group_by[2]", "interval")


async def test_without_a_time_it_is_about_the_last_ninety_days(
    client: ProtocolClient, sql: Sql
) -> None:
    jobs = await insert(sql, random.Random(4), 60)
    await sql.execute(
        "UPDATE generation_jobs SET created_at = created_at - interval '70 days' WHERE id <= 20"
    )
    (recent,) = await stats(client, filter=job_pb2.JobFilter(checkpoint_model="a"))
    assert recent.total == sum(job["checkpoint_model"] == "a" for job in jobs[20:])

    beginning = timestamp_pb2.Timestamp()
    for bounded in (
        {"created_after": beginning},
        {"created_before": in_an_hour()},
        {"ids": range(1, 61)},
    ):
        (every,) = await stats(client, filter=job_pb2.JobFilter(**bounded))
        assert every.total == 60
    (ended,) = await stats(client, filter=job_pb2.JobFilter(completed_after=beginning))
    assert ended.total == sum(job["completed_at"] is not None for job in jobs)


async def insert_files(sql: Sql, draw: random.Random, jobs: list[dict[str, Any]]) -> None:
    """Up to four files of each job, of its latest attempt (2) or one before; not all arrived."""
    for job in jobs:
        job["files"] = []
        for position in range(draw.randrange(5)):
            attempt, size = draw.choice([1, 2, 2, 2]), draw.randrange(10**6)
            stored = draw.random() < 0.8
            await sql.execute(
                "INSERT INTO job_artifacts (job_id, attempt, role, position, thumbnail_size,"
                " filename, content_type, size, sha256, object_key, stored_at)"
                " VALUES (%s, %s, %s, %s, %s, 'p.png', 'image/png', %s, sha256('x'), 'k', %s)",
                [
                    job["id"],
                    attempt,
                    "thumbnail" if position % 2 else "output",
                    position,
                    150 if position % 2 else 0,
                    size,
                    job["created_at"] if stored else None,
                ],
            )
            if job["status"] == "completed" and attempt == 2 and stored:
                job["files"].append(size)
    await sql.execute("UPDATE generation_jobs SET attempt = 2")


async def test_files_kept_are_counted_in_every_grouping_and_change_no_other_number(
    client: ProtocolClient, sql: Sql
) -> None:
    draw = random.Random(5)
    jobs = await insert(sql, draw, 200)
    await insert_files(sql, draw, jobs)
    groupings: list[tuple[list[Any], Callable[[dict[str, Any]], Any] | None]] = [
        ([], lambda job: None),
        ([pb.STATS_DIMENSION_USER], lambda job: job["user_id"]),
        ([pb.STATS_DIMENSION_CHECKPOINT, pb.STATS_DIMENSION_USER],
         lambda job: (job["checkpoint_model"], job["user_id"])),
        *(([one], None) for one in pb.StatsDimension.values()[1:]),
    ]  # fmt: skip
    every = [size for job in jobs for size in job["files"]]
    assert len(every) > 50
    for group_by, key in groupings:
        plain = await stats(client, *group_by)
        with_storage = await stats(client, *group_by, include_storage=True)
        assert sum(row.artifact_count for row in with_storage) == len(every)
        assert sum(row.artifact_bytes for row in with_storage) == sum(every)
        if key is not None:
            groups: dict[str, Any] = defaultdict(list)
            for job in jobs:
                groups[key(job)] += job["files"]
            assert [(row.artifact_count, row.artifact_bytes) for row in with_storage] == [
                (len(sizes), sum(sizes)) for _, sizes in sorted(groups.items())
            ]
        for row in with_storage:
            row.ClearField("artifact_count")
            row.ClearField("artifact_bytes")
        assert with_storage == plain

    (one,) = await stats(client, filter=job_pb2.JobFilter(user_id=USERS[0]), include_storage=True)
    assert one.artifact_bytes == sum(
        sum(job["files"]) for job in jobs if job["user_id"] == USERS[0]
    )
    (failed,) = await stats(
        client, filter=job_pb2.JobFilter(statuses=[FAILED]), include_storage=True
    )
    assert (failed.artifact_count, failed.artifact_bytes) == (0, 0)
