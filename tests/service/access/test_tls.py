"""TLS: certificates are replaced while the service runs, and a client's opens no door alone."""

import asyncio
from pathlib import Path

import grpc
import pytest
import structlog
import trustme
from generation_jobs.v1 import worker_service_pb2

from comfy_worker.worker.access import Access
from comfy_worker.worker.access import Tls as WorkerTls
from comfy_worker.worker.job_service_connection import JobServiceConnection
from job_service.access import certificates
from job_service.cannot_run import CannotRunError
from job_service.client import JobServiceClient, JobServiceError, Tls
from job_service.jobs.principal import Role
from job_service.settings import Settings
from tests.service.access.callers import ALICE
from tests.service.access.conftest import MakeToken


class Authority:
    """Signs certificates, and writes them where service and clients look for theirs."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self._folder = folder
        folder.mkdir()

    @property
    def root(self) -> Path:
        """The authority's own certificate."""
        path = self._folder / "ca.pem"
        self._ca.cert_pem.write_to_path(path)
        return path

    def issue(self, name: str) -> tuple[Path, Path]:
        """A certificate and its key."""
        issued = self._ca.issue_cert(name)
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        return certificate, key


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "first")


@pytest.fixture
def other(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "second")


@pytest.fixture(autouse=True)
def _looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "LOOK_EVERY_SECONDS", 0.1)


@pytest.fixture
def served(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    return folder


def _serve(served: Path, certificate: Path, key: Path) -> None:
    """Put a certificate where the service looks for it, as certbot does: one file at a time."""
    (served / "key.pem").write_bytes(key.read_bytes())
    (served / "certificate.pem").write_bytes(certificate.read_bytes())


@pytest.fixture
def service_settings(service_settings: Settings, served: Path, authority: Authority) -> Settings:
    _serve(served, *authority.issue("127.0.0.1"))
    return service_settings.model_copy(
        update={"tls_cert": served / "certificate.pem", "tls_key": served / "key.pem"}
    )


async def _trusts(service: str, root: Path, token: str) -> bool:
    """Whether a new connection that trusts this authority only gets through."""
    tls = Tls(ca=root)
    async with JobServiceClient(service, token=token, tls=tls, retry_for=0.0) as client:
        try:
            await client.queue_stats()
        except JobServiceError as error:
            if error.status is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
    return True


async def _logged(log: list[structlog.typing.EventDict], event: str) -> None:
    async with asyncio.timeout(60):
        while not any(one["event"] == event for one in log):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_certificates_are_replaced_without_a_restart(
    service: str, authority: Authority, other: Authority, served: Path, make_token: MakeToken
) -> None:
    token = await make_token(Role.CLIENT, ALICE)
    assert await _trusts(service, authority.root, token)
    assert not await _trusts(service, other.root, token)
    tls = Tls(ca=authority.root)
    async with JobServiceClient(service, token=token, tls=tls) as connected:
        await connected.queue_stats()
        with structlog.testing.capture_logs() as log:
            _serve(served, *other.issue("127.0.0.1"))
            await _logged(log, "certificates read")
        assert await _trusts(service, other.root, token)
        assert not await _trusts(service, authority.root, token)
        await connected.queue_stats()  # what is connected goes on


@pytest.mark.parametrize("spoil", ["garbage", "another key", "missing"])
async def test_bad_files_change_nothing_and_are_logged(
    service: str,
    authority: Authority,
    other: Authority,
    served: Path,
    make_token: MakeToken,
    spoil: str,
) -> None:
    token = await make_token(Role.CLIENT, ALICE)
    certificate, key = other.issue("127.0.0.1")
    with structlog.testing.capture_logs() as log:
        match spoil:
            case "garbage":
                (served / "certificate.pem").write_text("-----BEGIN CERTIFICATE-----\nnonsense")
            case "another key":
                (served / "key.pem").write_bytes(key.read_bytes())
            case "missing":
                (served / "key.pem").unlink()
        await _logged(log, "certificates refused, those before are served on")
        assert await _trusts(service, authority.root, token)
        _serve(served, certificate, key)
        await _logged(log, "certificates read")
    assert await _trusts(service, other.root, token)
    assert "PRIVATE" not in str(log)


@pytest.mark.parametrize("spoil", ["certificate.pem", "key.pem"])
async def test_bad_files_at_the_start_are_one_clear_line(
    service_settings: Settings, served: Path, spoil: str
) -> None:
    (served / spoil).write_text("nonsense")
    files = service_settings.certificate_files
    assert files is not None
    with pytest.raises(CannotRunError, match=r"no certificate and its unencrypted key") as error:
        certificates.Certificates(files)
    assert "\n" not in str(error.value)


async def test_the_name_in_the_certificate_may_be_another(
    service: str,
    authority: Authority,
    served: Path,
    make_token: MakeToken,
) -> None:
    token = await make_token(Role.CLIENT, ALICE)
    with structlog.testing.capture_logs() as log:
        _serve(served, *authority.issue("jobs.example"))
        await _logged(log, "certificates read")
    assert not await _trusts(service, authority.root, token)
    tls = Tls(ca=authority.root, server_name="jobs.example")
    async with JobServiceClient(f"grpcs://{service}", token=token, tls=tls) as client:
        await client.queue_stats()


class TestMutual:
    """The service asks for a client certificate."""

    @pytest.fixture
    def service_settings(self, service_settings: Settings, other: Authority) -> Settings:
        return service_settings.model_copy(update={"tls_client_ca": other.root})

    @pytest.fixture
    def mutual(self, authority: Authority, other: Authority) -> Tls:
        certificate, key = other.issue("a-client")
        return Tls(ca=authority.root, certificate=certificate, key=key)

    async def test_a_certificate_lets_connect_and_a_token_says_who_calls(
        self,
        service: str,
        authority: Authority,
        mutual: Tls,
        make_token: MakeToken,
    ) -> None:
        token = await make_token(Role.CLIENT, ALICE)
        assert not await _trusts(service, authority.root, token)
        async with JobServiceClient(service, token=token, tls=mutual) as client:
            await client.queue_stats()
        async with JobServiceClient(service, tls=mutual) as client:
            with pytest.raises(JobServiceError) as error:
                await client.queue_stats()
        assert error.value.reason == "UNAUTHENTICATED"

    async def test_a_worker_connects(
        self, service: str, mutual: Tls, make_token: MakeToken
    ) -> None:
        def pem(path: Path | None) -> bytes:
            assert path is not None
            return path.read_bytes()

        tls = WorkerTls(
            authority=pem(mutual.ca), certificate=pem(mutual.certificate), key=pem(mutual.key)
        )
        access = Access(service, await make_token(Role.WORKER), tls)
        identity = worker_service_pb2.WorkerIdentity(name="box-1", instance_id=str(ALICE))
        async with JobServiceConnection(access, identity) as connection:
            await connection.report_progress([])
            assert await connection.is_serving()
