"""A ComfyUI that is killed loses its queue, says so nowhere, and is worked with again."""

import asyncio
from pathlib import Path

import pytest

from comfy_worker.comfyui import ComfyBackend, LossReason, Lost, Succeeded
from tests.conformance.targets import OwnServer, Target, new_id
from tests.worker.comfyui.watching import Watcher

SECONDS = 120


@pytest.fixture
def server(target: Target) -> OwnServer:
    if target.server is None:
        pytest.skip("this ComfyUI is not ours to kill")
    return target.server


async def test_killed_and_restarted_in_mid_run(
    backend: ComfyBackend, target: Target, server: OwnServer, tmp_path: Path
) -> None:
    before, running, pending = new_id(), new_id(), new_id()
    async with asyncio.timeout(SECONDS):
        kept = await backend.run(before, target.picture(before))
        assert isinstance(kept, Succeeded)
        watcher = Watcher()
        runs = [
            asyncio.create_task(backend.run(one, graph, observers=observers))
            for one, graph, observers in (
                (running, target.picture(running, steps=5_000), watcher.observers()),
                (pending, target.picture(pending), None),
            )
        ]
        await watcher.until_step(2)

        server.kill()
        await backend.wait_disconnected()
        await asyncio.to_thread(server.restart)

        for run in runs:
            outcome = await run
            assert isinstance(outcome, Lost)
            assert outcome.reason is LossReason.RESTARTED
        assert await backend.wait_connected()
        again = new_id()
        assert isinstance(await backend.run(again, target.picture(again)), Succeeded)
        # Output files outlive the server.
        assert await backend.fetch(kept.files[0], tmp_path / "kept", max_bytes=10**7)
