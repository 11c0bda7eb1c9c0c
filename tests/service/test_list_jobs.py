"""GetJob and ListJobs: views, filters, and pages that neither repeat nor skip a job."""

import asyncio
import json

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2

from tests.jobs_protocol import CANCELLED, PENDING, RUNNING, ProtocolClient, refused
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker

ANNA = "aaaaaaaa-0000-4000-8000-000000000001"
BERT = "bbbbbbbb-0000-4000-8000-000000000002"


async def _all_pages(client: ProtocolClient, page_size: int, **fields: object) -> list[list[int]]:
    pages, token = [], ""
    while True:
        page = await client.list_jobs(page_size=page_size, page_token=token, **fields)
        pages.append([job.id for job in page.jobs])
        token = page.next_page_token
        if not token:
            return pages


async def test_newest_first_and_every_page_full_but_the_last(client: ProtocolClient) -> None:
    ids = [(await client.create()).id for _ in range(7)]
    newest = ids[::-1]
    assert await _all_pages(client, 3) == [newest[:3], newest[3:6], newest[6:]]
    assert await _all_pages(client, 7) == [newest]
    assert await _all_pages(client, 1_000) == [newest]
    assert [job.id for job in (await client.list_jobs()).jobs] == newest


async def test_an_empty_table_has_one_empty_page(client: ProtocolClient) -> None:
    assert await _all_pages(client, 10) == [[]]


async def test_fifty_jobs_are_a_page_unless_said_otherwise(client: ProtocolClient) -> None:
    await asyncio.gather(*(client.create() for _ in range(51)))
    page = await client.list_jobs()
    assert len(page.jobs) == 50
    assert page.next_page_token


async def test_jobs_created_while_paging_neither_repeat_nor_hide_others(
    client: ProtocolClient,
) -> None:
    before = [(await client.create()).id for _ in range(30)]
    paging = asyncio.create_task(_all_pages(client, 4))
    await asyncio.gather(*(client.create() for _ in range(60)))
    seen = [job_id for page in await paging for job_id in page]

    assert len(seen) == len(set(seen))
    assert set(before) <= set(seen)


async def test_jobs_created_at_the_same_moment_are_told_apart_by_id(
    client: ProtocolClient, sql: Sql
) -> None:
    ids = [(await client.create()).id for _ in range(10)]
    await sql.execute("UPDATE generation_jobs SET created_at = '2026-01-01T00:00:00.123456Z'")
    assert await _all_pages(client, 3) == [ids[9:6:-1], ids[6:3:-1], ids[3:0:-1], ids[:1]]


async def test_jobs_deleted_while_paging_do_not_end_it(client: ProtocolClient, sql: Sql) -> None:
    ids = [(await client.create()).id for _ in range(6)]
    first = await client.list_jobs(page_size=2)
    await sql.execute("DELETE FROM generation_jobs WHERE id = ANY(%s)", [ids[3:]])
    second = await client.list_jobs(page_size=2, page_token=first.next_page_token)
    assert [job.id for job in second.jobs] == [ids[2], ids[1]]


async def test_filters_by_user_and_state(client: ProtocolClient, worker: ProtocolWorker) -> None:
    anna = [(await client.create(user_id=ANNA)).id for _ in range(3)]
    bert = [(await client.create(user_id=BERT)).id for _ in range(2)]
    await client.cancel(anna[2])
    running = (await worker.lease_one()).job_id

    async def found(**condition: object) -> set[int]:
        pages = await _all_pages(client, 1, filter=job_pb2.JobFilter(**condition))  # type: ignore[arg-type]
        return {job_id for page in pages for job_id in page}

    assert await found() == {*anna, *bert}
    assert await found(user_id=ANNA) == set(anna)
    assert await found(user_id=ANNA.upper(), statuses=[PENDING, RUNNING]) == set(anna[:2])
    assert await found(statuses=[RUNNING]) == {running}
    assert await found(statuses=[CANCELLED], user_id=BERT) == set()
    assert await found(statuses=[CANCELLED]) == {anna[2]}


async def test_the_page_size_may_change_between_pages(client: ProtocolClient) -> None:
    ids = [(await client.create()).id for _ in range(5)]
    first = await client.list_jobs(page_size=1)
    rest = await client.list_jobs(page_size=10, page_token=first.next_page_token)
    assert [job.id for job in rest.jobs] == ids[3::-1]


@pytest.mark.parametrize("view", [job_pb2.JOB_VIEW_BASIC, job_pb2.JOB_VIEW_FULL])
async def test_a_page_stops_at_three_megabytes(
    client: ProtocolClient, view: "job_pb2.JobView.ValueType"
) -> None:
    params = json.dumps({"text": "x" * 260_000})
    jobs = await asyncio.gather(*(client.create(params_json=params) for _ in range(20)))

    seen, token = [], ""
    while True:
        page = await client.list_jobs(page_size=20, page_token=token, view=view)
        assert page.ByteSize() <= 3 * 1024 * 1024
        assert page.jobs
        seen += [job.id for job in page.jobs]
        token = page.next_page_token
        if not token:
            break
    assert sorted(seen) == sorted(job.id for job in jobs)
    assert len(seen) == 20


async def test_views(client: ProtocolClient, worker: ProtocolWorker) -> None:
    job = await client.create()
    lease = await worker.lease_one()
    await worker.complete(lease, await worker.upload(lease, b"picture"))

    full = await client.get(job.id)
    assert (len(full.artifacts), len(full.attempts)) == (1, 1)
    (listed,) = (await client.list_jobs()).jobs
    assert (len(listed.artifacts), len(listed.attempts)) == (0, 0)
    (listed,) = (await client.list_jobs(view=job_pb2.JOB_VIEW_FULL)).jobs
    assert listed == full
    request = pb.GetJobRequest(id=job.id, view=job_pb2.JOB_VIEW_BASIC)
    basic = (await client.stub.GetJob(request, timeout=20)).job
    assert (len(basic.artifacts), len(basic.attempts)) == (0, 0)
    assert basic.status == full.status


async def test_a_token_is_bound_to_its_filter(client: ProtocolClient) -> None:
    for _ in range(2):
        await client.create(user_id=ANNA)
    of_anna = job_pb2.JobFilter(user_id=ANNA)
    token = (await client.list_jobs(page_size=1, filter=of_anna)).next_page_token

    error = await refused(client.list_jobs(page_size=1, page_token=token))
    assert error.status is grpc.StatusCode.INVALID_ARGUMENT
    assert error.fields == ("page_token",)
    for damaged in (token[:-1], token + "A", token[::-1], "A" * len(token)):
        error = await refused(client.list_jobs(filter=of_anna, page_token=damaged))
        assert error.fields == ("page_token",)
