"""The token goes along with every call, and TLS trusts only the given roots."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import grpc
import pytest
from generation_jobs.v1.generation_job_service_pb2 import (
    GetJobResponse,
    GetQueueStatsRequest,
    GetQueueStatsResponse,
    UploadInputRequest,
    UploadInputResponse,
)
from generation_jobs.v1.job_pb2 import JobStatus

from job_service.client import CredentialsError, JobServiceClient, JobServiceError, Tls
from tests.unit.client.messages import a_job, completed
from tests.unit.client.scripted_service import ScriptedService

# Self-signed for 127.0.0.1, valid until 2125.
_TLS = Path(__file__).parent / "tls"


@pytest.fixture
async def scripted_tls() -> AsyncIterator[ScriptedService]:
    key, certificate = (_TLS / "key.pem").read_bytes(), (_TLS / "certificate.pem").read_bytes()
    credentials = grpc.ssl_server_credentials([(key, certificate)])
    async with ScriptedService(credentials) as service:
        yield service


async def test_every_kind_of_call_sends_the_token(scripted: ScriptedService) -> None:
    scripted.script("GetJob", GetJobResponse(job=a_job(JobStatus.JOB_STATUS_PENDING)))
    scripted.script("WatchJob", completed())
    scripted.script("GetQueueStats", GetQueueStatsResponse(pending=3))
    scripted.script("UploadInput", UploadInputResponse())
    async with JobServiceClient(scripted.address, token="sesame") as client:
        await client.get_job(7)
        assert [update async for update in client.watch(7)] == [completed()]
        assert (await client.stub.GetQueueStats(GetQueueStatsRequest())).pending == 3
        await client.stub.UploadInput(iter([UploadInputRequest(chunk=b"x")]))
    assert [sent["authorization"] for sent in scripted.metadata] == ["Bearer sesame"] * 4


async def test_no_token_sends_none(scripted: ScriptedService, client: JobServiceClient) -> None:
    scripted.script("GetJob", GetJobResponse(job=a_job(JobStatus.JOB_STATUS_PENDING)))
    await client.get_job(7)
    assert "authorization" not in scripted.metadata[0]


@pytest.mark.parametrize("token", ["", " ", "two\nlines", "ends ", "schlüssel", "a\x00b"])
async def test_a_token_that_cannot_be_sent_is_refused(token: str) -> None:
    with pytest.raises(CredentialsError):
        async with JobServiceClient(token=token):
            pytest.fail("it was accepted")


async def test_a_token_file_is_read_again_when_it_changes(
    scripted: ScriptedService, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_text("sesame\n")
    for _ in range(4):
        scripted.script("GetJob", GetJobResponse(job=a_job(JobStatus.JOB_STATUS_PENDING)))
    async with JobServiceClient(scripted.address, token_file=path) as client:
        await client.get_job(7)
        path.write_text("barley and more\n")
        await client.get_job(7)
        path.unlink()
        await client.get_job(7)
        path.write_text("ryé")
        await client.get_job(7)
    sent = [one["authorization"] for one in scripted.metadata]
    assert sent == ["Bearer sesame", *["Bearer barley and more"] * 3]


@pytest.mark.parametrize("address", ["192.0.2.7:50051", "jobs.example:50051", "[2001:db8::1]:1"])
async def test_a_token_leaves_the_machine_in_the_clear_only_where_that_is_allowed(
    address: str, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("sesame")
    for told in ({"token": "sesame"}, {"token_file": tmp_path / "token"}):
        with pytest.raises(CredentialsError, match="in the clear") as error:
            async with JobServiceClient(address, **told):
                pytest.fail("it was accepted")
        assert "sesame" not in str(error.value)
    async with JobServiceClient(address, token="sesame", token_in_clear=True):
        pass
    async with JobServiceClient(address):  # there is nothing to overhear
        pass
    async with JobServiceClient(f"grpcs://{address}", token="sesame"):
        pass


@pytest.mark.parametrize("address", ["localhost:1", "127.0.0.2:1", "[::1]:1", "unix:/run/jobs"])
async def test_a_token_that_stays_on_the_machine_needs_no_tls(address: str) -> None:
    async with JobServiceClient(address, token="sesame"):
        pass


async def test_a_user_is_named_in_every_call(scripted: ScriptedService) -> None:
    scripted.script("GetJob", GetJobResponse(job=a_job(JobStatus.JOB_STATUS_PENDING)))
    user = UUID(int=7)
    async with JobServiceClient(scripted.address, token="sesame", on_behalf_of=user) as client:
        await client.get_job(7)
    assert scripted.metadata[0]["x-on-behalf-of"] == str(user)


async def test_the_scheme_switches_tls_on(scripted_tls: ScriptedService) -> None:
    async with JobServiceClient(f"grpcs://{scripted_tls.address}", retry_for=0.0) as client:
        with pytest.raises(JobServiceError) as caught:
            await client.get_job(7)
    assert "CERTIFICATE_VERIFY_FAILED" in caught.value.message  # nobody trusts it by default


@pytest.mark.parametrize(
    ("address", "tls"),
    [
        ("https://127.0.0.1:1", None),
        ("127.0.0.1:1", Tls(certificate=_TLS / "certificate.pem")),
        ("127.0.0.1:1", Tls(certificate=_TLS / "key.pem", key=_TLS / "key.pem")),
    ],
)
async def test_what_cannot_be_connected_with(address: str, tls: Tls | None) -> None:
    with pytest.raises(CredentialsError):
        async with JobServiceClient(address, tls=tls):
            pytest.fail("it was accepted")


async def test_tls_with_the_right_root(scripted_tls: ScriptedService) -> None:
    scripted_tls.script("GetJob", GetJobResponse(job=a_job(JobStatus.JOB_STATUS_PENDING)))
    tls = Tls(ca=_TLS / "certificate.pem")
    async with JobServiceClient(scripted_tls.address, token="sesame", tls=tls) as client:
        assert (await client.get_job(7)).id == 7
    assert scripted_tls.metadata[0]["authorization"] == "Bearer sesame"


async def test_tls_is_not_spoken_without_a_root(scripted_tls: ScriptedService) -> None:
    async with JobServiceClient(scripted_tls.address, retry_for=0.0) as client:
        with pytest.raises(JobServiceError) as caught:
            await client.get_job(7)
    assert caught.value.status is grpc.StatusCode.UNAVAILABLE


async def test_a_root_file_without_a_certificate(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(CredentialsError, match=r"ca\.pem holds no PEM certificate"):
        async with JobServiceClient(tls=Tls(ca=tmp_path / "ca.pem")):
            pytest.fail("it was accepted")


async def test_a_root_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        async with JobServiceClient(tls=Tls(ca=tmp_path / "ca.pem")):
            pytest.fail("it was accepted")
