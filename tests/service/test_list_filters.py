"""ListJobs: every filter combined with every other, against a plain reading of the same jobs."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2
from google.protobuf import timestamp_pb2
from psycopg.types.json import Jsonb

from job_service.jobs.states import STATUS_FROM_WIRE, TYPE_FROM_WIRE
from tests.jobs_protocol import ProtocolClient, refused
from tests.service_fixture import Sql

USERS = [str(UUID(int=n)) for n in (1, 2, 3)]
CHECKPOINTS = ["a.safetensors", "b.safetensors"]
WORDS = ["fox", "lighthouse", "storm", "портрет", "red"]
NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
ORDERS = {
    pb.JOB_ORDER_UNSPECIFIED: ("created_at", True),
    pb.JOB_ORDER_CREATED_DESC: ("created_at", True),
    pb.JOB_ORDER_CREATED_ASC: ("created_at", False),
    pb.JOB_ORDER_UPDATED_DESC: ("updated_at", True),
    pb.JOB_ORDER_COMPLETED_DESC: ("completed_at", True),
}

HEAVY = pytest.mark.heavy


def jobs_drawn(draw: random.Random, count: int) -> Iterator[dict[str, Any]]:
    """Jobs of all kinds; many share a time, as imported ones do."""
    for n in range(count):
        status = draw.choice(["pending", "running", "completed", "failed", "cancelled"])
        created = NOW - draw.randrange(40) * DAY
        yield {
            "id": n + 1,
            "user_id": draw.choice(USERS),
            "status": status,
            "job_type": draw.choice(["image", "image", "text", "video"]),
            "checkpoint_model": draw.choice(CHECKPOINTS),
            "labels": {key: draw.choice("xy") for key in draw.sample("ab", draw.randrange(3))},
            "prompt": " ".join(draw.sample(WORDS, draw.randrange(1, 4))),
            "negative_prompt": draw.choice(["", "blurry", "storm"]),
            "backend_label": draw.choice(["comfyui", "kerniegen"]),
            "created_at": created,
            "updated_at": created + draw.randrange(3) * DAY,
            "completed_at": None
            if status in ("pending", "running")
            else created + draw.randrange(5) * DAY,
            "legacy_request_id": n + 1000 if draw.random() < 0.2 else None,
        }


async def insert(sql: Sql, jobs: list[dict[str, Any]]) -> None:
    cursor = await sql.execute(
        "INSERT INTO workers (name, instance_id, epoch) VALUES ('box-1', gen_random_uuid(), 1)"
        " ON CONFLICT (name, epoch) DO UPDATE SET epoch = 1 RETURNING id"
    )
    (worker_id,) = await cursor.fetchone() or (None,)
    async with sql.cursor() as cursor:
        await cursor.executemany(
            """
            INSERT INTO generation_jobs (
                id, user_id, status, job_type, checkpoint_model, labels, prompt, negative_prompt,
                backend_label, created_at, updated_at, completed_at, legacy_request_id, width,
                height, batch_size, error, worker_id, lease_token, leased_at, lease_expires_at,
                backend
            ) VALUES (
                %(id)s, %(user_id)s, %(status)s, %(job_type)s, %(checkpoint_model)s, %(labels)s,
                %(prompt)s, %(negative_prompt)s, %(backend_label)s, %(created_at)s,
                %(updated_at)s, %(completed_at)s, %(legacy_request_id)s, 64, 64, 1,
                %(error)s, %(worker_id)s, CASE WHEN %(running)s THEN gen_random_uuid() END,
                CASE WHEN %(running)s THEN now() END,
                CASE WHEN %(running)s THEN now() + interval '1 hour' END, 'box-1/gpu0'
            )
            """,
            [
                job
                | {
                    "labels": Jsonb(job["labels"]),
                    "error": Jsonb({}) if job["status"] == "failed" else None,
                    "running": job["status"] == "running",
                    "worker_id": worker_id if job["status"] == "running" else None,
                }
                for job in jobs
            ],
        )


def stamp(moment: datetime) -> timestamp_pb2.Timestamp:
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(moment)
    return message


def filter_drawn(draw: random.Random) -> job_pb2.JobFilter:
    """A filter of up to four conditions."""
    day = stamp(NOW - draw.randrange(40) * DAY)
    conditions = {
        "user_id": draw.choice(USERS),
        "statuses": draw.choices(list(STATUS_FROM_WIRE), k=draw.randrange(1, 4)),
        "job_types": draw.sample(list(TYPE_FROM_WIRE), 2),
        "checkpoint_model": draw.choice(CHECKPOINTS),
        "labels": {draw.choice("ab"): draw.choice("xy")},
        "created_after": day,
        "created_before": day,
        "completed_after": day,
        "completed_before": day,
        "search": draw.choice(
            ["fox", "red fox", '"red fox"', "fox -storm", "PORTRAIT or портрет", "none"]
        ),
        "backends": [draw.choice(["comfyui", "kerniegen"])],
        "legacy_request_id": draw.randrange(1000, 1200),
        "ids": draw.sample(range(1, 250), 50),
    }
    assert set(conditions) == {field.name for field in job_pb2.JobFilter.DESCRIPTOR.fields}
    chosen = draw.sample(list(conditions), draw.randrange(5))
    return job_pb2.JobFilter(**{name: conditions[name] for name in chosen})  # type: ignore[arg-type]


def matches(job: dict[str, Any], wanted: job_pb2.JobFilter) -> bool:
    """The filter's meaning, word by word."""
    statuses = [STATUS_FROM_WIRE[status] for status in wanted.statuses]
    types = [TYPE_FROM_WIRE[job_type] for job_type in wanted.job_types]

    def within(column: str, after: str, before: str) -> bool:
        moment = job[column]
        if wanted.HasField(after) and not (  # type: ignore[arg-type]
            moment and moment >= getattr(wanted, after).ToDatetime(UTC)
        ):
            return False
        return not wanted.HasField(before) or bool(  # type: ignore[arg-type]
            moment and moment < getattr(wanted, before).ToDatetime(UTC)
        )

    return (
        wanted.user_id in ("", job["user_id"])
        and (not statuses or job["status"] in statuses)
        and (not types or job["job_type"] in types)
        and wanted.checkpoint_model in ("", job["checkpoint_model"])
        and wanted.labels.items() <= job["labels"].items()
        and within("created_at", "created_after", "created_before")
        and within("completed_at", "completed_after", "completed_before")
        and found(f"{job['prompt']} {job['negative_prompt']}", wanted.search)
        and (not wanted.backends or job["backend_label"] in wanted.backends)
        and (
            not wanted.HasField("legacy_request_id")
            or job["legacy_request_id"] == wanted.legacy_request_id
        )
        and (not wanted.ids or job["id"] in wanted.ids)
    )


def found(text: str, search: str) -> bool:
    """Web search as far as these tests use it."""
    words = text.lower().split()
    if search.startswith('"'):
        return search.strip('"') in " ".join(words)
    if " or " in search:
        return any(part.lower() in words for part in search.split(" or "))
    return all(
        (part[1:] not in words) if part.startswith("-") else part in words
        for part in search.lower().split()
    )


async def all_pages(
    client: ProtocolClient, page_size: int, **request: Any
) -> tuple[list[int], set[int]]:
    """Ids over all pages, and the totals that the pages said."""
    ids: list[int] = []
    totals: set[int] = set()
    token = ""
    while True:
        page = await client.list_jobs(
            page_size=page_size, page_token=token, include_total=True, **request
        )
        assert len(page.jobs) <= page_size
        ids += [job.id for job in page.jobs]
        totals.add(page.total)
        token = page.next_page_token
        if not token:
            return ids, totals


@pytest.mark.parametrize("seed", [1, 2, *(pytest.param(n, marks=HEAVY) for n in range(3, 23))])
async def test_filters_orders_and_pages_agree_with_a_plain_reading(
    seed: int, client: ProtocolClient, sql: Sql
) -> None:
    draw = random.Random(seed)
    jobs = list(jobs_drawn(draw, 200))
    await insert(sql, jobs)
    for _ in range(40):
        wanted = filter_drawn(draw)
        order = draw.choice(list(ORDERS))
        column, descending = ORDERS[order]
        expected = sorted(
            (job for job in jobs if matches(job, wanted)),
            key=lambda job: (job[column] or NOW, job["id"]),
            reverse=descending,
        )
        if column == "completed_at":
            expected = [job for job in expected if job["completed_at"]]
        ids, totals = await all_pages(
            client, draw.choice([1000, 41, 13]), filter=wanted, order_by=order
        )
        assert ids == [job["id"] for job in expected], wanted
        assert totals == {sum(matches(job, wanted) for job in jobs)}, wanted


@pytest.mark.parametrize("order", ORDERS)
async def test_jobs_that_come_while_paging_neither_repeat_nor_hide_others_in_any_order(
    order: "pb.JobOrder.ValueType", client: ProtocolClient, sql: Sql
) -> None:
    draw = random.Random(int(order))
    jobs = list(jobs_drawn(draw, 400))
    stored, coming = jobs[:200], jobs[200:]
    await insert(sql, stored)
    column, _ = ORDERS[order]
    for wanted in (job_pb2.JobFilter(), *(filter_drawn(draw) for _ in range(6))):
        expected = {job["id"] for job in stored if matches(job, wanted) and job[column]}
        seen: list[int] = []
        token = ""
        while True:
            page = await client.list_jobs(
                filter=wanted, order_by=order, page_size=draw.choice([7, 23]), page_token=token
            )
            seen += [job.id for job in page.jobs]
            token = page.next_page_token
            if not token:
                break
            # of any time: some belong on pages that have been read, some on those to come
            come, coming = coming[:2], coming[2:]
            await insert(sql, come)
            stored = stored + come
        assert len(seen) == len(set(seen))
        assert expected <= set(seen), wanted


async def test_the_old_lists_of_recent_jobs_can_be_expressed(
    client: ProtocolClient, sql: Sql
) -> None:
    await insert(sql, list(jobs_drawn(random.Random(4), 200)))
    for status, days in ((job_pb2.JOB_STATUS_COMPLETED, 30), (job_pb2.JOB_STATUS_FAILED, 7)):
        wanted = job_pb2.JobFilter(statuses=[status], completed_after=stamp(NOW - days * DAY))
        page = await client.list_jobs(
            filter=wanted, order_by=pb.JOB_ORDER_COMPLETED_DESC, page_size=1000
        )
        assert page.jobs
        ended = [job.completed_at.ToDatetime(UTC) for job in page.jobs]
        assert ended == sorted(ended, reverse=True)
        assert min(ended) >= NOW - days * DAY


async def test_a_token_is_bound_to_its_order(client: ProtocolClient, sql: Sql) -> None:
    await insert(sql, list(jobs_drawn(random.Random(5), 20)))
    token = (await client.list_jobs(page_size=5)).next_page_token
    error = await refused(
        client.list_jobs(page_size=5, page_token=token, order_by=pb.JOB_ORDER_UPDATED_DESC)
    )
    assert (error.status, error.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ("page_token",))


@pytest.mark.parametrize("filling", ["", " ", "\u2010 ", '"', "(", "& ", "_"])
async def test_negations_without_end_are_searched_for_or_refused(
    client: ProtocolClient, filling: str
) -> None:
    await client.create(prompt="a fox")
    for count in range(1, 60):
        search = f"-{filling}" * count
        asked = client.list_jobs(filter=job_pb2.JobFilter(search=search))
        if count < 25 or filling == "_":
            await asked
        else:
            assert (await refused(asked)).fields == ("filter.search",)
