"""A worker speaks to a job_service behind TLS that has another name than its address."""

import asyncio
from pathlib import Path

import pytest
import structlog
import trustme

from comfy_worker.simulator import Simulator
from job_service.client import JobServiceClient, Tls
from job_service.settings import Settings
from tests.worker.worker.asking import SECONDS, completed, picture
from tests.worker.worker.conftest import StartWorker

NAME = "jobs.example"


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """The certificate of who has signed the service's."""
    return tmp_path / "ca.pem"


@pytest.fixture
def service_settings(service_settings: Settings, tmp_path: Path, authority: Path) -> Settings:
    signer = trustme.CA()
    signer.cert_pem.write_to_path(authority)
    issued = signer.issue_cert(NAME)
    certificate, key = tmp_path / "jobs.pem", tmp_path / "jobs.key"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    return service_settings.model_copy(update={"tls_cert": certificate, "tls_key": key})


async def test_the_name_in_the_certificate_is_given_by_a_setting(
    service: str, authority: Path, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFY_WORKER_TLS_SERVER_NAME", NAME)
    start_worker(tls_ca=authority)
    tls = Tls(ca=authority, server_name=NAME)
    async with JobServiceClient(service, tls=tls) as jobs:
        await completed(jobs, (await jobs.create_job(picture())).id)


async def test_without_it_a_certificate_of_another_name_is_not_believed(
    authority: Path, start_worker: StartWorker, simulator: Simulator
) -> None:
    with structlog.testing.capture_logs() as log:
        worker = start_worker(tls_ca=authority)
        async with asyncio.timeout(SECONDS):
            while not any("does not serve" in line["event"] for line in log):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert not worker.task.done()
    assert not any("registered" in line["event"] for line in log)
