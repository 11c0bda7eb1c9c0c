"""CreateJob stores a job and answers it with every default resolved."""

import json
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2
from google.protobuf import duration_pb2, timestamp_pb2

from job_service import server
from job_service.settings import Settings
from tests.jobs_protocol import PENDING, ProtocolClient, a_job, refused
from tests.worker_protocol import CHECKPOINT, seconds


async def test_defaults_are_resolved_in_the_answer(client: ProtocolClient) -> None:
    job = await client.create()

    assert job.id > 0
    assert job.status == PENDING
    assert job.job_type == job_pb2.JOB_TYPE_IMAGE
    assert (job.width, job.height, job.batch_size) == (832, 1216, 1)
    assert (job.sampler.steps, job.sampler.cfg, job.sampler.denoise) == (28, 5.5, 1.0)
    assert (job.sampler.sampler_name, job.sampler.scheduler) == ("euler", "normal")
    assert job.negative_prompt == ""
    assert json.loads(job.params_json) == {}
    assert job.backend == "comfyui"
    assert (job.priority, job.max_attempts, job.attempt, job.attempts_charged) == (0, 3, 0, 0)
    assert job.HasField("priority")
    assert job.attempt_timeout == duration_pb2.Duration(seconds=900)
    assert job.user_id
    assert job.HasField("created_at")
    for absent in (
        "scheduled_at", "expires_at", "leased_at", "started_at", "completed_at", "progress",
        "error", "content_id", "cancel_requested_at", "legacy_request_id",
    ):  # fmt: skip
        assert not job.HasField(absent), absent


async def test_limits_and_defaults_of_a_job_are_settings(service_settings: Settings) -> None:
    wide = service_settings.model_copy(
        update={
            "max_dimension": 4096,
            "max_batch_size": 16,
            "attempt_timeout": timedelta(minutes=1),
        }
    )
    async with server.running(wide) as address, grpc.aio.insecure_channel(address) as channel:
        client = ProtocolClient(channel)
        job = await client.create(width=4096, height=4096, batch_size=16)
        assert job.attempt_timeout == seconds(60)
        error = await refused(client.create(width=4104, batch_size=17))
        assert set(error.fields) == {"job.width", "job.batch_size"}


async def test_every_given_value_is_kept(client: ProtocolClient) -> None:
    given = a_job(
        user_id="123e4567-e89b-12d3-a456-426614174000",
        job_type=job_pb2.JOB_TYPE_VIDEO,
        prompt="ein Leuchtturm 🗼 in 'quotes' \\ and {braces} :name",
        negative_prompt="  blurry\n",
        lora_models=[
            job_pb2.Lora(name="b.safetensors"),
            job_pb2.Lora(name="a.safetensors", strength_model=-10, strength_clip=10),
            job_pb2.Lora(name="b.safetensors", strength_model=0.25),
        ],
        width=64,
        height=2048,
        batch_size=8,
        sampler=job_pb2.Sampler(
            seed=2**63 - 1, steps=150, cfg=0, sampler_name="dpmpp_2m", scheduler="karras", denoise=0
        ),
        params_json='{"big": 9007199254740993, "text": "ü", "nested": {"list": [1, null, true]}}',
        labels={"team": "a:b", "leer": ""},
        backend="kerniegen",
        priority=100,
        scheduled_at=timestamp_pb2.Timestamp(seconds=4_000_000_000),
        expires_at=timestamp_pb2.Timestamp(seconds=4_000_000_001),
        max_attempts=20,
        attempt_timeout=duration_pb2.Duration(seconds=10),
        content_id=0,
    )
    stored = await client.create(
        **{field.name: value for field, value in given.ListFields()}, request_id="r-1"
    )

    for name in (
        "user_id", "job_type", "prompt", "negative_prompt", "checkpoint_model", "width", "height",
        "batch_size", "sampler", "labels", "backend", "priority", "scheduled_at", "expires_at",
        "max_attempts", "attempt_timeout", "content_id",
    ):  # fmt: skip
        assert getattr(stored, name) == getattr(given, name), name
    assert stored.HasField("content_id")
    assert stored.request_id == "r-1"
    assert [
        (lora.name, lora.strength_model, lora.strength_clip) for lora in stored.lora_models
    ] == [
        ("b.safetensors", 0.8, 0.8),
        ("a.safetensors", -10, 10),
        ("b.safetensors", 0.25, 0.25),
    ]
    assert json.loads(stored.params_json) == json.loads(given.params_json)
    assert await client.get(stored.id) == stored


async def test_output_only_fields_are_ignored(client: ProtocolClient) -> None:
    stored = await client.create(
        id=77,
        status=job_pb2.JOB_STATUS_COMPLETED,
        attempt=9,
        attempts_charged=2,
        worker="me",
        revision=5,
        etag="x",
        completed_at=timestamp_pb2.Timestamp(seconds=1),
        request_id="",
        legacy_request_id=4,
    )

    assert stored.status == PENDING
    assert (stored.attempt, stored.attempts_charged, stored.worker) == (0, 0, "")
    assert not stored.HasField("completed_at")
    assert not stored.HasField("legacy_request_id")


@pytest.mark.parametrize("sampler", [job_pb2.Sampler(), job_pb2.Sampler(seed=-1)])
async def test_a_seed_is_drawn_below_2_to_53_when_none_is_given(
    client: ProtocolClient, sampler: job_pb2.Sampler
) -> None:
    jobs = [await client.create(sampler=sampler) for _ in range(8)]

    seeds = {job.sampler.seed for job in jobs}
    assert len(seeds) == len(jobs)
    assert all(0 <= seed < 2**53 for seed in seeds)
    assert (await client.get(jobs[0].id)).sampler.seed == jobs[0].sampler.seed


async def test_seed_zero_is_a_seed(client: ProtocolClient) -> None:
    stored = await client.create(sampler=job_pb2.Sampler(seed=0))
    assert stored.sampler.seed == 0
    assert stored.sampler.HasField("seed")


async def test_other_types_get_no_picture_defaults(client: ProtocolClient) -> None:
    request = pb.CreateJobRequest(
        job=job_pb2.GenerationJob(prompt="a story", job_type=job_pb2.JOB_TYPE_TEXT)
    )
    stored = await client.send(request)

    assert stored.job_type == job_pb2.JOB_TYPE_TEXT
    assert not any(stored.HasField(name) for name in ("width", "height", "batch_size", "sampler"))


async def test_the_longest_of_everything_is_stored(client: ProtocolClient) -> None:
    params = json.dumps({"text": "x" * (256 * 1024 - 12)})
    stored = await client.create(
        prompt="🗼" * 20_000,
        negative_prompt="ü" * 20_000,
        checkpoint_model="c" * 255,
        lora_models=[job_pb2.Lora(name=f"{n}" * 127) for n in range(10, 26)],
        labels={f"{n:063}": "ä" * 255 for n in range(64)},
        params_json=params,
        backend="b" * 63,
        sampler=job_pb2.Sampler(sampler_name="s" * 63, scheduler="s" * 63),
        request_id="r" * 128,
    )

    assert stored.prompt == "🗼" * 20_000
    assert len(params.encode()) == 256 * 1024
    assert json.loads(stored.params_json) == json.loads(params)
    assert len(stored.labels) == 64


async def test_a_job_without_a_name_it_could_be_confused_with_keeps_times_of_the_database(
    client: ProtocolClient,
) -> None:
    before = datetime.now(UTC)
    stored = await client.create(attempt_timeout=seconds(90.5), checkpoint_model=CHECKPOINT)
    after = datetime.now(UTC)

    assert before <= stored.created_at.ToDatetime(tzinfo=UTC) <= after
    assert stored.attempt_timeout == seconds(90.5)
    assert stored.revision == 1
    assert stored.etag
