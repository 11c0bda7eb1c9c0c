"""Small files travel together, large ones by themselves."""

from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

from generation_jobs.v1 import worker_service_pb2 as pb
from generation_jobs.v1.job_pb2 import GenerationJob
from hypothesis import given
from hypothesis import strategies as st

from comfy_worker.worker.upload_batches import MOST_BYTES, MOST_FILES, ArtifactFile, batches
from job_service.client import JobServiceClient
from tests.worker.worker.asking import completed, large_video, picture
from tests.worker.worker.conftest import StartWorker
from tests.worker.worker.lease_editor import LeaseEditor

SIZES = st.one_of(
    st.integers(0, 2000),
    st.sampled_from([MOST_BYTES // 2, MOST_BYTES - 1, MOST_BYTES, MOST_BYTES + 1, 2**40]),
)
PICTURE = ["image/png", "image/webp", "image/webp", "image/webp"]


@given(st.lists(SIZES, max_size=200))
async def test_batches_fit_a_call_and_keep_the_order(sizes: list[int]) -> None:
    async def files() -> AsyncIterator[ArtifactFile]:
        for position, size in enumerate(sizes):
            yield ArtifactFile(pb.ArtifactHeader(position=position, size=size), Path("unread"))

    handed_on = [batch async for batch in batches(files())]
    found = [[file.header for file in batch.files] for batch in handed_on]

    assert [header.position for batch in found for header in batch] == list(range(len(sizes)))
    for batch in found:
        size = sum(header.size for header in batch)
        assert len(batch) == 1 or (len(batch) <= MOST_FILES and size <= MOST_BYTES)
    for batch, following in pairwise(found):
        size = sum(header.size for header in batch)
        assert len(batch) == MOST_FILES or size + following[0].size > MOST_BYTES
    assert not any(batch.is_rest for batch in handed_on[:-1])
    if handed_on:
        assert handed_on[-1].is_rest == (sum(header.size for header in found[-1]) <= MOST_BYTES)


async def test_a_large_file_is_handed_on_before_the_next_is_asked_for() -> None:
    asked: list[int] = []

    async def files() -> AsyncIterator[ArtifactFile]:
        for position in range(3):
            asked.append(position)
            yield ArtifactFile(
                pb.ArtifactHeader(position=position, size=MOST_BYTES + 1), Path("unread")
            )

    seen = [list(asked) async for _ in batches(files())]
    assert seen == [[0], [0, 1], [0, 1, 2]]


def stored(job: GenerationJob) -> list[tuple[int, int]]:
    return [(each.position, each.thumbnail_size) for each in job.artifacts]


async def test_a_picture_and_its_thumbnails_take_one_call_which_completes_the_job(
    jobs: JobServiceClient, leases: LeaseEditor, start_worker: StartWorker
) -> None:
    start_worker(job_service=leases.address)
    one = await completed(jobs, (await jobs.create_job(picture())).id)
    batch = await completed(jobs, (await jobs.create_job(picture(batch_size=3))).id)

    assert leases.uploads == [PICTURE, PICTURE * 3]
    assert leases.completions == 0
    assert stored(one) == [(0, size) for size in (0, 150, 300, 600)]
    assert stored(batch) == [(n, size) for n in range(3) for size in (0, 150, 300, 600)]


async def test_an_older_service_is_told_of_the_completion_afterwards(
    jobs: JobServiceClient, leases: LeaseEditor, start_worker: StartWorker
) -> None:
    leases.completes_with_files = False
    start_worker(job_service=leases.address)
    for count in (1, 2):
        job = await completed(jobs, (await jobs.create_job(picture(batch_size=2))).id)
        assert stored(job) == [(n, size) for n in range(2) for size in (0, 150, 300, 600)]
        assert leases.uploads == [PICTURE * 2] * count
        assert leases.completions == count


async def test_an_older_service_gets_file_by_file_and_is_asked_once(
    jobs: JobServiceClient, leases: LeaseEditor, start_worker: StartWorker
) -> None:
    leases.takes_files_together = False
    start_worker(job_service=leases.address)
    for _ in range(2):
        job = await completed(jobs, (await jobs.create_job(picture())).id)
        assert stored(job) == [(0, size) for size in (0, 150, 300, 600)]
    assert leases.uploads == [PICTURE, *[[]] * 8]
    assert leases.completions == 2


async def test_a_large_file_goes_by_itself(
    jobs: JobServiceClient, leases: LeaseEditor, start_worker: StartWorker
) -> None:
    start_worker(job_service=leases.address)
    leases.graph = large_video()
    leases.graph["3"] = {"class_type": "PreviewAny", "inputs": {"source": "a lighthouse"}}
    job = await completed(jobs, (await jobs.create_job(picture())).id)
    assert job.artifacts[0].size > MOST_BYTES
    assert [each.content_type for each in job.artifacts] == ["video/webm", "text/plain"]
    assert leases.uploads == [[], ["text/plain"]]
    assert leases.completions == 0
