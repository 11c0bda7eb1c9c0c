"""Service, worker and command over mutual TLS, each with a token: it works, and tells no secret."""

import asyncio
import os
import subprocess
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import trustme
from generation_jobs.v1 import job_pb2
from sqlalchemy import make_url

from comfy_worker.simulator import Simulator, SimulatorSettings
from job_service.access import secret
from job_service.client import JobServiceClient, JobServiceError, Tls
from job_service.health_probe import wait_until_serving
from tests.end_to_end.installation import CHECKPOINT
from tests.end_to_end.real_processes import RealProcess, free_address
from tests.service.access.callers import ALICE

PASSWORD = "canary-database-password"
STORE_KEY = "canary-store-key"
PROMPT = "canary-prompt of a lighthouse"
COMFYUI_PASSWORD = "canary-comfyui-password"


@dataclass(frozen=True, slots=True)
class Pems:
    """A certificate with its key."""

    certificate: Path
    key: Path


def _issue(ca: trustme.CA, folder: Path, name: str) -> Pems:
    issued = ca.issue_cert(name)
    pems = Pems(folder / f"{name}.pem", folder / f"{name}.key")
    issued.cert_chain_pems[0].write_to_path(pems.certificate)
    issued.private_key_pem.write_to_path(pems.key)
    return pems


def _line(name: str, role: str, token: str, *options: str) -> str:
    return " ".join([name, role, f"sha256:{secret.digest(token).hex()}", *options]) + "\n"


def _says(command: list[str], environment: dict[str, str]) -> str:
    """All that a command prints."""
    program = str(Path(sys.executable).parent / command[0])
    done = subprocess.run(
        [program, *command[1:]],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.stdout + done.stderr


def _listed_processes() -> str:
    """What everybody on this machine sees of the processes that this one has started."""
    children = psutil.Process().children(recursive=True)
    return "\n".join(" ".join(child.cmdline()) for child in children)


async def _rendered(client: JobServiceClient) -> job_pb2.GenerationJob:
    """A small job, once it rests."""
    job = await client.create_job(
        job_pb2.GenerationJob(prompt=PROMPT, checkpoint_model=CHECKPOINT, width=64, height=64)
    )
    async with asyncio.timeout(60):
        async for message in client.watch(job.id):
            job = message.job
    return job


@pytest.mark.heavy
async def test_everything_over_mutual_tls_with_tokens(
    stack: AsyncExitStack, tmp_path: Path, database_url: str
) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    server, client_pems = (_issue(ca, tmp_path, name) for name in ("127.0.0.1", "a-client"))
    hers, workers, next_of_worker = (secret.drawn() for _ in range(3))
    tokens_file, worker_token = tmp_path / "tokens", tmp_path / "worker-token"
    base = _line("ada", "client", hers, f"user={ALICE}")
    tokens_file.write_text(base + _line("box", "worker", workers, "worker=box-1"))
    worker_token.write_text(workers + "\n")
    address = free_address()
    service_environment = {
        "JOB_SERVICE_LISTEN": address,
        "JOB_SERVICE_DATA_DIR": str(tmp_path / "data"),
        "JOB_SERVICE_DATABASE_URL": make_url(database_url)
        .set(password=PASSWORD)
        .render_as_string(hide_password=False),
        "JOB_SERVICE_TLS_CERT": str(server.certificate),
        "JOB_SERVICE_TLS_KEY": str(server.key),
        "JOB_SERVICE_TLS_CLIENT_CA": str(tmp_path / "ca.pem"),
        "JOB_SERVICE_TOKENS_FILE": str(tokens_file),
        "JOB_SERVICE_LOG_LEVEL": "debug",
    }
    tls = Tls(ca=tmp_path / "ca.pem", certificate=client_pems.certificate, key=client_pems.key)
    service_log, worker_log = tmp_path / "service.log", tmp_path / "worker.log"
    await stack.enter_async_context(
        RealProcess(["job-service", "serve"], service_log, **service_environment)
    )
    async with asyncio.timeout(60):
        await wait_until_serving(address, tls)
    simulator = await stack.enter_async_context(
        Simulator(SimulatorSettings(step_seconds=0.0, load_seconds=0.0))
    )
    worker_environment = {
        "COMFY_WORKER_JOB_SERVICE": f"grpcs://{address}",
        "COMFY_WORKER_TLS_CA": str(tmp_path / "ca.pem"),
        "COMFY_WORKER_TLS_CERT": str(client_pems.certificate),
        "COMFY_WORKER_TLS_KEY": str(client_pems.key),
        "COMFY_WORKER_TOKEN_FILE": str(worker_token),
        "COMFY_WORKER_NAME": "box-1",
        "COMFY_WORKER_COMFYUI_URLS": simulator.url.replace("://", f"://ada:{COMFYUI_PASSWORD}@"),
        "COMFY_WORKER_LOG_LEVEL": "debug",
        "COMFY_WORKER_GRACE": "1",
    }
    await stack.enter_async_context(
        RealProcess(["comfy-worker", "run"], worker_log, **worker_environment)
    )
    client = await stack.enter_async_context(JobServiceClient(address, token=hers, tls=tls))
    assert (await _rendered(client)).status == job_pb2.JOB_STATUS_COMPLETED

    # The worker's token is replaced: first both count, then the new one alone.
    both = _line("box", "worker", next_of_worker, "worker=box-1")
    tokens_file.write_text(tokens_file.read_text() + both)
    await asyncio.sleep(3)  # the service looks every two seconds
    worker_token.write_text(next_of_worker + "\n")
    tokens_file.write_text(base + both)
    assert (await _rendered(client)).status == job_pb2.JOB_STATUS_COMPLETED
    async with JobServiceClient(address, token=workers, tls=tls) as impostor:
        with pytest.raises(JobServiceError) as error:
            await impostor.queue_stats()
        assert workers not in str(error.value)

    genjobs = {
        "GENJOBS_ADDRESS": address,
        "GENJOBS_TLS_CA": str(tmp_path / "ca.pem"),
        "GENJOBS_TLS_CERT": str(client_pems.certificate),
        "GENJOBS_TLS_KEY": str(client_pems.key),
    }
    listed = await asyncio.to_thread(_says, ["genjobs", "list"], genjobs | {"GENJOBS_TOKEN": hers})
    assert listed.count("completed") == 2
    told = [
        listed,
        await asyncio.to_thread(_says, ["genjobs", "list"], genjobs | {"GENJOBS_TOKEN": workers}),
        await asyncio.to_thread(_says, ["genjobs", "workers"], genjobs | {"GENJOBS_TOKEN": hers}),
    ]
    in_a_bucket = f"s3://key:{STORE_KEY}@bucket/prefix?secret_access_key={STORE_KEY}"
    in_bucket = service_environment | {"JOB_SERVICE_ARTIFACT_STORE": in_a_bucket}
    for command, environment in (
        (["job-service", "config"], in_bucket),
        (["job-service", "check"], service_environment),
        (["job-service", "check"], in_bucket),
        (["job-service", "token", "list"], service_environment),
        (["comfy-worker", "config"], worker_environment),
        (["comfy-worker", "check"], worker_environment),
    ):
        told += [await asyncio.to_thread(_says, command, environment)]
    told += [_listed_processes(), service_log.read_text(), worker_log.read_text()]

    key_line = server.key.read_text().splitlines()[1]
    secrets = [hers, workers, next_of_worker, PASSWORD, STORE_KEY, COMFYUI_PASSWORD]
    secrets.append(key_line)
    for said in told:
        assert said
        assert not [one for one in secrets if one in said]
    assert "job-service" in told[-3]  # the listing has seen them
    for log in (service_log, worker_log):
        lines = [line for line in log.read_text().splitlines() if PROMPT in line]
        assert all("[debug" in line for line in lines)
