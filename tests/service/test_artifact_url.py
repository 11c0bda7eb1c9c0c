"""GetArtifactUrl: a signed URL where the store has such, and a way out where it has not."""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, quote, urlsplit

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from google.protobuf import duration_pb2

from job_service.settings import Settings
from tests.jobs_protocol import ProtocolClient, refused
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker, seconds, thumbnail

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket nobody can reach, with credentials that sign."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    return "s3://pictures/made"


@pytest.fixture
def service_settings(service_settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """In a bucket, when the test takes one."""
    if "bucket" not in request.fixturenames:
        return service_settings
    return service_settings.model_copy(update={"artifact_store": request.getfixturevalue("bucket")})


async def _stored(client: ProtocolClient, sql: Sql) -> dict[int, int]:
    """A picture and its thumbnail, as if uploaded: size (0: the picture) → artifact id."""
    job = await client.create()
    found = await sql.execute(
        "INSERT INTO job_artifacts (job_id, attempt, role, position, thumbnail_size, filename,"
        " content_type, size, sha256, object_key, stored_at)"
        " SELECT %s, 1, role, 0, thumbnail, 'p.png', 'image/png', 1, sha256('x'), key, now()"
        " FROM (VALUES ('output', 0, 'jobs/1/1/0-output'),"
        "  ('thumbnail', 300, 'jobs/1/1/0-thumbnail-300')) AS v (role, thumbnail, key)"
        " RETURNING thumbnail_size, id",
        [job.id],
    )
    return dict(await found.fetchall())


async def _url(
    client: ProtocolClient, artifact_id: int, **fields: object
) -> pb.GetArtifactUrlResponse:
    request = pb.GetArtifactUrlRequest(artifact_id=artifact_id, **fields)  # type: ignore[arg-type]
    return await client.stub.GetArtifactUrl(request, timeout=20)


async def test_a_bucket_gives_a_url_that_it_will_accept_for_that_long(
    bucket: str, client: ProtocolClient, sql: Sql
) -> None:
    stored = await _stored(client, sql)
    before = datetime.now(UTC)
    answer = await _url(client, stored[0], lifetime=seconds(3600))

    url = urlsplit(answer.url)
    assert url.scheme == "https"
    assert "pictures" in url.netloc + url.path
    assert url.path.endswith("/made/jobs/1/1/0-output")
    query = {name: value for name, (value,) in parse_qs(url.query).items()}
    assert query["X-Amz-Expires"] == "3600"
    assert query["X-Amz-Signature"] == _signature("GET", answer.url)
    signed_at = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%S%z")
    expires_at = answer.expires_at.ToDatetime(tzinfo=UTC)
    assert before - timedelta(seconds=1) <= expires_at - timedelta(hours=1)
    assert expires_at - timedelta(seconds=1) <= signed_at + timedelta(hours=1)


async def test_without_a_lifetime_it_is_a_quarter_of_an_hour_and_thumbnails_have_urls_too(
    bucket: str, client: ProtocolClient, sql: Sql
) -> None:
    stored = await _stored(client, sql)
    url = (await _url(client, stored[0], thumbnail_size=300)).url
    assert urlsplit(url).path.endswith("0-thumbnail-300")
    assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == ["900"]


@pytest.mark.parametrize(
    ("lifetime", "works"), [(59.9, False), (60, True), (86_400, True), (86_400.1, False)]
)
async def test_lifetimes_have_bounds(
    bucket: str, client: ProtocolClient, sql: Sql, lifetime: float, works: bool
) -> None:
    stored = await _stored(client, sql)
    if works:
        assert (await _url(client, stored[0], lifetime=seconds(lifetime))).url
    else:
        error = await refused(_url(client, stored[0], lifetime=seconds(lifetime)))
        assert error.fields == ("lifetime",)


async def test_every_wrong_field_is_named(client: ProtocolClient) -> None:
    error = await refused(
        _url(client, 0, thumbnail_size=7, lifetime=duration_pb2.Duration(seconds=1, nanos=-1))
    )
    assert error.status is grpc.StatusCode.INVALID_ARGUMENT
    assert set(error.fields) == {"artifact_id", "thumbnail_size", "lifetime"}
    assert (await refused(_url(client, 4711))).reason == "ARTIFACT_NOT_FOUND"


async def test_a_directory_has_no_urls_and_says_what_to_do(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    await client.create()
    lease = await worker.lease_one()
    picture = await worker.upload(lease, b"picture")
    await worker.upload(lease, b"small", **thumbnail(300))
    await worker.complete(lease, picture)
    for size in (0, 300):
        error = await refused(_url(client, picture.id, thumbnail_size=size))
        assert error.status is grpc.StatusCode.FAILED_PRECONDITION
        assert error.reason == "NO_ARTIFACT_URLS"
        assert "ReadArtifact" in error.message


def _signature(method: str, url: str) -> str:
    """AWS Signature Version 4 of a presigned request, as Amazon documents it."""
    parts = urlsplit(url)
    query = sorted(
        (quote(name, safe=""), quote(value, safe=""))
        for name, (value,) in parse_qs(parts.query).items()
        if name != "X-Amz-Signature"
    )
    values = {name: value for name, (value,) in parse_qs(parts.query).items()}
    scope = values["X-Amz-Credential"].partition("/")[2]
    canonical = "\n".join(
        (
            method,
            parts.path,
            "&".join(f"{name}={value}" for name, value in query),
            f"host:{parts.netloc}\n",
            "host",
            "UNSIGNED-PAYLOAD",
        )
    )
    to_sign = "\n".join(
        (
            "AWS4-HMAC-SHA256",
            values["X-Amz-Date"],
            scope,
            hashlib.sha256(canonical.encode()).hexdigest(),
        )
    )
    key = f"AWS4{SECRET}".encode()
    for step in scope.split("/"):
        key = hmac.digest(key, step.encode(), "sha256")
    return hmac.new(key, to_sign.encode(), "sha256").hexdigest()
