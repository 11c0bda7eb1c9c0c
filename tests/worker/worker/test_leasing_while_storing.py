"""While files wait to be stored, few more jobs are taken, and none is taken and given back."""

import asyncio

from generation_jobs.v1 import job_pb2

from job_service.client import JobServiceClient
from tests.worker.worker.asking import SECONDS, completed, picture
from tests.worker.worker.conftest import StartWorker
from tests.worker.worker.lease_editor import LeaseEditor

DEPTH = 2
#: As many as may be storing before no more are asked for.
FULL = 2 * DEPTH


async def test_a_held_call_is_not_given_up_for_files_that_wait(
    jobs: JobServiceClient, start_worker: StartWorker, leases: LeaseEditor
) -> None:
    leases.files_pass.clear()
    start_worker(depth=DEPTH, job_service=leases.address)
    asked = []
    # One after the other, so that a call is held while each of them is rendered; the last is
    # what the call brings that was held when there was still room.
    for _ in range(FULL + 1):
        asked.append(await jobs.create_job(picture()))
        async with asyncio.timeout(SECONDS):
            await leases.files_come.acquire()
    one_too_many = await jobs.create_job(picture())
    await asyncio.sleep(0.2)
    assert (await jobs.get_job(one_too_many.id)).status == job_pb2.JOB_STATUS_PENDING

    leases.files_pass.set()
    for job in (*asked, one_too_many):
        assert (await completed(jobs, job.id)).attempt == 1
    assert leases.given_up == 0
