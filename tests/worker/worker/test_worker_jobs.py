"""A leased job becomes pictures, thumbnails and progress, or an error that says why."""

import asyncio
import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from generation_jobs.v1 import artifact_pb2, job_error_pb2, job_pb2
from PIL import Image

from comfy_worker.simulator import Simulator, SimulatorSettings
from comfy_worker.simulator.settings import DEFAULT_LORAS
from job_service.client import JobServiceClient
from tests.worker.worker.asking import SECONDS, completed, ended, large_video, picture, until
from tests.worker.worker.conftest import StartWorker
from tests.worker.worker.lease_editor import LeaseEditor


async def test_a_picture_and_its_thumbnails(
    jobs: JobServiceClient, start_worker: StartWorker, tmp_path: Path
) -> None:
    start_worker()
    asked = await jobs.create_job(picture(width=832, height=1216))
    job = await completed(jobs, asked.id)
    output, *thumbnails = job.artifacts
    assert output.role == artifact_pb2.ARTIFACT_ROLE_OUTPUT
    assert (output.width, output.height, output.content_type) == (832, 1216, "image/png")
    assert output.node_id == "save"
    assert [(t.thumbnail_size, t.width, t.height, t.content_type) for t in thumbnails] == [
        (150, 103, 150, "image/webp"),
        (300, 205, 300, "image/webp"),
        (600, 411, 600, "image/webp"),
    ]
    path = tmp_path / "picture.png"
    await jobs.download(output.id, path)
    assert hashlib.sha256(path.read_bytes()).digest() == output.sha256
    with Image.open(path) as image:
        assert image.size == (832, 1216)
    assert job.comfyui_prompt_id
    assert job.comfyui_backend.startswith("box/127.0.0.1-")
    assert job.worker == "box"
    assert job.HasField("started_at")


async def test_progress_reaches_who_watches(
    jobs: JobServiceClient, start_worker: StartWorker, simulator: Simulator
) -> None:
    hold = simulator.faults.hold(step=3)
    start_worker()
    asked = await jobs.create_job(picture())
    async with asyncio.timeout(SECONDS):
        prompt_id = await hold.reached()
    job = await until(jobs, asked.id, lambda job: job.progress.step == 2)
    assert job.status == job_pb2.JOB_STATUS_RUNNING
    assert job.progress.phase == job_pb2.PROGRESS_PHASE_SAMPLING
    assert (job.progress.node_id, job.progress.node_class) == ("sampler", "KSampler")
    assert job.progress.steps == 4
    assert 0.3 < job.progress.fraction < 0.7
    hold.release()
    done = await completed(jobs, asked.id)
    assert done.comfyui_prompt_id == prompt_id


async def test_a_batch_with_loras(jobs: JobServiceClient, start_worker: StartWorker) -> None:
    start_worker()
    loras = [job_pb2.Lora(name=name) for name in DEFAULT_LORAS[:2]]
    asked = await jobs.create_job(picture(batch_size=4, lora_models=loras))
    job = await completed(jobs, asked.id)
    outputs = [a for a in job.artifacts if a.role == artifact_pb2.ARTIFACT_ROLE_OUTPUT]
    assert [output.position for output in outputs] == [0, 1, 2, 3]
    assert len({output.sha256 for output in outputs}) == 4
    assert len(job.artifacts) == 16


async def test_previews_reach_who_wants_them(
    jobs: JobServiceClient, start_worker: StartWorker, simulator: Simulator
) -> None:
    hold = simulator.faults.hold(step=4)
    start_worker()
    asked = await jobs.create_job(picture())
    watch = jobs.watch(asked.id, include_previews=True)
    async with asyncio.timeout(SECONDS):
        async for message in watch:
            if message.HasField("preview"):
                assert message.preview.content_type == "image/jpeg"
                assert message.preview.data.startswith(b"\xff\xd8")
                break
    await watch.aclose()
    hold.release()
    await completed(jobs, asked.id)


async def test_a_worker_that_is_to_have_no_previews_sends_none(
    jobs: JobServiceClient, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFY_WORKER_PREVIEWS", "false")
    start_worker()
    asked = await jobs.create_job(picture())
    async with asyncio.timeout(SECONDS):
        messages = [message async for message in jobs.watch(asked.id, include_previews=True)]
    assert messages[-1].job.status == job_pb2.JOB_STATUS_COMPLETED
    assert not any(message.HasField("preview") for message in messages)


async def test_a_worker_takes_the_kinds_of_job_it_is_labelled_for(
    jobs: JobServiceClient, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFY_WORKER_LABELS", "studio,attic")
    start_worker()
    left = await jobs.create_job(picture())
    for label in ("studio", "attic"):
        await completed(jobs, (await jobs.create_job(picture(backend=label))).id)
    assert (await jobs.get_job(left.id)).attempt == 0


async def test_a_node_that_raises_fails_the_job_with_its_reason(
    jobs: JobServiceClient, start_worker: StartWorker, simulator: Simulator
) -> None:
    simulator.faults.fail_node("VAEDecode", exception_type="ValueError", message="bad latent")
    start_worker()
    asked = await jobs.create_job(picture())
    job = await ended(jobs, asked.id)
    assert job.status == job_pb2.JOB_STATUS_FAILED
    assert job.error.code == job_error_pb2.ERROR_CODE_NODE_FAILED
    assert job.error.message == "VAEDecode (decode) failed: ValueError: bad latent"
    assert (job.error.node_id, job.error.node_type) == ("decode", "VAEDecode")
    assert job.error.exception_type == "ValueError"
    assert "bad latent" in job.error.technical_details


async def test_settings_comfyui_refuses_fail_the_job_by_input(
    jobs: JobServiceClient, start_worker: StartWorker
) -> None:
    start_worker()
    sampler = job_pb2.Sampler(steps=2, sampler_name="no_such_sampler")
    asked = await jobs.create_job(picture(sampler=sampler))
    job = await ended(jobs, asked.id)
    assert job.error.code == job_error_pb2.ERROR_CODE_INVALID_WORKFLOW
    (wrong,) = job.error.node_input_errors
    assert (wrong.node_id, wrong.input_name) == ("sampler", "sampler_name")
    assert wrong.error_type == "value_not_in_list"


async def test_the_next_job_waits_in_comfyui_while_one_renders(
    jobs: JobServiceClient, start_worker: StartWorker, simulator: Simulator
) -> None:
    hold = simulator.faults.hold()
    start_worker(depth=2)
    asked = [await jobs.create_job(picture()) for _ in range(3)]
    async with asyncio.timeout(SECONDS):
        await hold.reached()
        await simulator.signals.wait_until(lambda: len(simulator.signals.queued) == 2)
    second = await until(
        jobs, asked[1].id, lambda job: job.progress.phase == job_pb2.PROGRESS_PHASE_QUEUED
    )
    assert second.status == job_pb2.JOB_STATUS_RUNNING
    assert not second.HasField("started_at")
    assert (await jobs.get_job(asked[2].id)).status == job_pb2.JOB_STATUS_PENDING
    hold.release()
    for job in asked:
        await completed(jobs, job.id)


async def test_two_comfyuis_share_the_work(
    jobs: JobServiceClient, start_worker: StartWorker, simulator: Simulator
) -> None:
    async with Simulator(SimulatorSettings(step_seconds=0.002, load_seconds=0.0)) as other:
        first, second = simulator.faults.hold(), other.faults.hold()
        start_worker(depth=1, comfyui_urls=f"a={simulator.url},b={other.url}")
        asked = [await jobs.create_job(picture()) for _ in range(2)]
        async with asyncio.timeout(SECONDS):
            await first.reached()
            await second.reached()
        first.release()
        second.release()
        done = [await completed(jobs, job.id) for job in asked]
    assert {job.comfyui_backend for job in done} == {"box/a", "box/b"}


@pytest.mark.parametrize("held", [True, False], ids=["running", "waiting in ComfyUI"])
async def test_a_cancel_stops_the_prompt_and_only_that(
    held: bool, jobs: JobServiceClient, start_worker: StartWorker, simulator: Simulator
) -> None:
    hold = simulator.faults.hold(step=2)
    start_worker()
    first = await jobs.create_job(picture(steps=30))
    async with asyncio.timeout(SECONDS):
        await hold.reached()
    second = await jobs.create_job(picture(steps=2))
    async with asyncio.timeout(SECONDS):
        await simulator.signals.wait_until(lambda: len(simulator.signals.queued) == 2)
    victim, other = (first, second) if held else (second, first)
    await jobs.cancel_job(victim.id)
    async with asyncio.timeout(SECONDS):
        if held:
            await simulator.signals.interrupt_received()
            hold.release()
        job = await ended(jobs, victim.id)
    assert job.status == job_pb2.JOB_STATUS_CANCELLED
    hold.release()
    await completed(jobs, other.id)
    assert simulator.signals.completed[job.comfyui_prompt_id] == 0


def failed_with(code: job_error_pb2.ErrorCode.ValueType) -> Callable[[job_pb2.GenerationJob], bool]:
    """Whether a job's latest attempt, the first, has ended with this error."""
    return lambda job: job.error.code == code and job.attempt == 1


async def test_an_interrupt_by_somebody_in_comfyui_is_an_error_of_its_own(
    jobs: JobServiceClient, start_worker: StartWorker, simulator: Simulator
) -> None:
    hold = simulator.faults.hold(step=2)
    start_worker()
    asked = await jobs.create_job(picture())
    async with asyncio.timeout(SECONDS):
        await hold.reached()
        async with aiohttp.ClientSession() as http:
            await http.post(f"{simulator.url}/interrupt", json={})
    hold.release()
    job = await until(jobs, asked.id, failed_with(job_error_pb2.ERROR_CODE_INTERRUPTED))
    assert job.status == job_pb2.JOB_STATUS_PENDING


async def test_a_file_that_cannot_be_fetched_is_a_missing_output(
    jobs: JobServiceClient, start_worker: StartWorker, simulator: Simulator
) -> None:
    simulator.faults.files_are_gone = True
    start_worker()
    asked = await jobs.create_job(picture())
    job = await until(jobs, asked.id, failed_with(job_error_pb2.ERROR_CODE_OUTPUT_MISSING))
    assert "404" in job.error.technical_details


async def test_two_equal_jobs_have_files_of_their_own(
    jobs: JobServiceClient, start_worker: StartWorker, tmp_path: Path
) -> None:
    settings = SimulatorSettings(
        step_seconds=0.002, load_seconds=0.0, output_directory=tmp_path / "output"
    )
    async with Simulator(settings) as simulator:
        worker = start_worker(comfyui_urls=simulator.url)
        sampler = job_pb2.Sampler(steps=2, seed=7)
        first = await jobs.create_job(picture(sampler=sampler))
        await completed(jobs, first.id)
        for path in (tmp_path / "output").rglob("*.png"):
            path.unlink()
        # Everything of it but the saving is in ComfyUI's cache.
        second = await jobs.create_job(picture(sampler=sampler))
        done = await completed(jobs, second.id)
        assert (len(done.artifacts), done.attempt) == (4, 1)
        # Nor did it take a second try.
        assert sum(simulator.signals.queued.values()) == 2
        await worker.end()


async def test_a_file_over_the_limit_is_not_kept(
    jobs: JobServiceClient, start_worker: StartWorker
) -> None:
    start_worker(max_output_bytes=100)
    asked = await jobs.create_job(picture())
    job = await until(jobs, asked.id, failed_with(job_error_pb2.ERROR_CODE_OUTPUT_MISSING))
    assert job.error.message == "A result cannot be kept: the file exceeds 100 bytes."


async def test_a_worker_without_room_for_files_says_so_and_works_on(
    jobs: JobServiceClient,
    start_worker: StartWorker,
    leases: LeaseEditor,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    worker = start_worker(job_service=leases.address)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
        # a picture needs none
        await completed(jobs, (await jobs.create_job(picture())).id)
        leases.graph = large_video()
        asked = await jobs.create_job(picture())
        job = await until(jobs, asked.id, failed_with(job_error_pb2.ERROR_CODE_INTERNAL))
        assert "FileNotFoundError" in job.error.technical_details
    asked = await jobs.create_job(picture())
    await completed(jobs, asked.id)
    assert not worker.task.done()
