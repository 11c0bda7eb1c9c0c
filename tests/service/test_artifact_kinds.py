"""Whatever a graph puts out comes back: films, sound, text, models."""

from datetime import timedelta

import pytest
from google.protobuf import duration_pb2

from job_service.settings import Settings
from tests.jobs_protocol import COMPLETED, ProtocolClient, refused
from tests.worker_protocol import ProtocolWorker, seconds


@pytest.fixture
def service_settings(service_settings: Settings) -> Settings:
    return service_settings.model_copy(update={"max_artifact_bytes": 1024**2})


async def test_files_of_every_kind_come_back_with_how_long_they_play(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    await client.create()
    lease = await worker.lease_one()
    kinds = [
        ("clip.mp4", "video/mp4", 12.345),
        ("voice.flac", "audio/flac", 0.0),
        ("film.webm", "video/webm", 86_400.0),
        ("caption.txt", "text/plain; charset=utf-8", None),
        ("mesh.glb", "model/gltf-binary", None),
        ("weights.latent", "application/octet-stream", None),
    ]
    uploaded = [
        await worker.upload(
            lease,
            name.encode(),
            position=n,
            filename=name,
            content_type=content_type,
            width=0,
            height=0,
            duration=None if plays is None else seconds(plays),
        )
        for n, (name, content_type, plays) in enumerate(kinds)
    ]
    assert await worker.complete(lease, *uploaded) == COMPLETED

    artifacts = (await client.get(lease.job_id)).artifacts
    assert list(artifacts) == uploaded
    assert [
        (
            one.filename,
            one.content_type,
            one.duration.ToTimedelta() / timedelta(seconds=1) if one.HasField("duration") else None,
        )
        for one in artifacts
    ] == kinds
    assert (await client.read(artifacts[0].id))[0] == uploaded[0]


async def test_a_file_sent_again_has_what_was_said_last(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    await client.create()
    lease = await worker.lease_one()
    await worker.upload(lease, b"film", duration=seconds(5))
    again = await worker.upload(lease, b"film")
    assert not again.HasField("duration")


@pytest.mark.parametrize(
    "plays",
    [
        duration_pb2.Duration(seconds=-1),
        duration_pb2.Duration(seconds=86_401),
        duration_pb2.Duration(seconds=1, nanos=-1),
        duration_pb2.Duration(seconds=2**62),
    ],
)
async def test_a_length_that_cannot_be_is_refused(
    client: ProtocolClient, worker: ProtocolWorker, plays: duration_pb2.Duration
) -> None:
    await client.create()
    lease = await worker.lease_one()
    error = await refused(worker.upload(lease, b"film", duration=plays))
    assert error.fields == ("header.duration",)


async def test_a_file_over_the_limit_is_refused_by_its_header(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    await client.create()
    lease = await worker.lease_one()
    error = await refused(worker.upload(lease, b"film", size=1024**2 + 1))
    assert error.fields == ("header.size",)
    assert "1,048,576" in error.message
    await worker.upload(lease, bytes(1024**2))
