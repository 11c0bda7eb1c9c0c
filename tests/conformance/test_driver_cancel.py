"""A cancel stops its own prompt, wherever it is, and nobody else's."""

import asyncio

from comfy_worker.comfyui import Cancellation, ComfyBackend, Interrupted, Outcome, Succeeded
from tests.conformance.targets import Target, new_id
from tests.worker.comfyui.watching import Watcher

SECONDS = 120
ENDLESS = 5_000
"""Steps: minutes, unless it is stopped."""


async def sampling(
    backend: ComfyBackend, target: Target, prompt_id: str, *, steps: int = ENDLESS
) -> tuple[asyncio.Task[Outcome], Watcher]:
    """A run that has come to its second step, and its watcher."""
    watcher = Watcher()
    graph = target.picture(prompt_id, steps=steps)
    run = asyncio.create_task(backend.run(prompt_id, graph, observers=watcher.observers()))
    await watcher.until_step(2)
    return run, watcher


async def waiting(backend: ComfyBackend, target: Target, prompt_id: str) -> asyncio.Task[Outcome]:
    """A run that ComfyUI has in its queue."""
    watcher = Watcher()
    run = asyncio.create_task(
        backend.run(prompt_id, target.picture(prompt_id), observers=watcher.observers())
    )
    await watcher.until_accepted()
    return run


async def test_a_pending_prompt_is_removed(backend: ComfyBackend, target: Target) -> None:
    first, second = new_id(), new_id()
    async with asyncio.timeout(SECONDS):
        running, watcher = await sampling(backend, target, first)
        pending = await waiting(backend, target, second)
        assert await backend.cancel(second) is Cancellation.REMOVED
        assert await pending == Interrupted(second, requested=True)
        reached = watcher.progress[-1].step
        await watcher.until(lambda: watcher.progress[-1].step > reached)
        await backend.cancel(first)
        await running
        assert await backend.cancel(second) is Cancellation.NOT_FOUND


async def test_a_running_prompt_is_interrupted_and_the_next_one_is_not(
    backend: ComfyBackend, target: Target
) -> None:
    first, second = new_id(), new_id()
    async with asyncio.timeout(SECONDS):
        running, _ = await sampling(backend, target, first)
        pending = await waiting(backend, target, second)
        assert await backend.cancel(first) is Cancellation.INTERRUPTED
        assert await running == Interrupted(first, requested=True)
        assert isinstance(await pending, Succeeded)
        assert await backend.cancel(second) is Cancellation.TOO_LATE


async def test_a_wrong_cancel_does_not_touch_a_neighbours_prompt(
    backend: ComfyBackend, neighbour: ComfyBackend, target: Target
) -> None:
    theirs, ours = new_id(), new_id()
    async with asyncio.timeout(SECONDS):
        running, watcher = await sampling(neighbour, target, theirs, steps=30)
        assert await backend.cancel(new_id()) is Cancellation.NOT_FOUND
        pending = await waiting(backend, target, ours)
        assert await backend.cancel(ours) is Cancellation.REMOVED
        assert await pending == Interrupted(ours, requested=True)
        assert watcher.progress[-1].fraction < 1, "it ended before it could be touched"
        assert isinstance(await running, Succeeded)


async def test_a_cancel_at_the_very_end_never_hits_the_next_prompt(
    backend: ComfyBackend, neighbour: ComfyBackend, target: Target
) -> None:
    async with asyncio.timeout(SECONDS):
        for _ in range(10):
            ours, theirs = new_id(), new_id()
            watcher = Watcher()
            run = asyncio.create_task(
                backend.run(ours, target.picture(ours), observers=watcher.observers())
            )
            await watcher.until_accepted()
            next_one = await waiting(neighbour, target, theirs)
            await watcher.until_fraction(0.9)
            assert await backend.cancel(ours) in {Cancellation.TOO_LATE, Cancellation.INTERRUPTED}
            assert isinstance(await run, Succeeded | Interrupted)
            assert isinstance(await next_one, Succeeded)
