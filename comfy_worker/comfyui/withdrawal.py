"""Taking a prompt back: out of the queue, or out of execution, and making sure of it."""

import asyncio
from collections.abc import Awaitable, Callable

from comfy_worker.comfyui.client import ComfyClient
from comfy_worker.comfyui.outcomes import Cancellation
from comfy_worker.comfyui.prompt_state import Ending, QueueSnapshot

_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 1.0


async def withdraw(
    client: ComfyClient,
    prompt_id: str,
    *,
    seconds: float,
    is_amid_steps: Callable[[], bool],
    pause: Callable[[float], Awaitable[None]],
) -> Cancellation:
    """Remove or interrupt the prompt and verify it, within ``seconds``.

    Requests are repeated until the prompt is gone: the queue holds an id as often as it
    was sent and loses one entry per request (recording 04), and an interrupt that comes
    before the first node is forgotten. Where ComfyUI can stop a prompt by its id wherever it is,
    it is asked to: it decides and acts in one step, so that nothing comes in between. Where it
    cannot, the prompt is removed from the queue or interrupted, as it was last seen.

    ``is_amid_steps`` says whether the prompt is known to have steps ahead of it;
    ``pause`` waits a while, or less when the prompt ends.

    Raises ComfyUnreachableError and UnexpectedAnswerError.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    interrupts_by_id: bool | None = None
    """None as long as ComfyUI itself cancels by id."""
    removed = False
    wait = _FIRST_PAUSE
    while True:
        queue = await client.queue()
        if prompt_id in queue:
            is_running = prompt_id in queue.running
            if interrupts_by_id is None:
                if not await client.cancel_job(prompt_id):
                    interrupts_by_id = (await client.server_info()).interrupts_by_id
                    continue  # the queue may be another by now
            elif not is_running:
                await client.delete_pending(prompt_id)
            elif interrupts_by_id or _runs_alone(queue, prompt_id) or is_amid_steps():
                await client.interrupt(prompt_id)
            removed = removed or not is_running
        else:
            entry = await client.history(prompt_id)
            if entry is None:
                return Cancellation.REMOVED if removed else Cancellation.NOT_FOUND
            if entry.ending is Ending.INTERRUPTED:
                return Cancellation.INTERRUPTED
            return Cancellation.TOO_LATE
        if loop.time() >= deadline:
            return Cancellation.STILL_RUNNING
        await pause(min(wait, max(deadline - loop.time(), 0.0)))
        wait = min(wait * 2, _LONGEST_PAUSE)


def _runs_alone(queue: QueueSnapshot, prompt_id: str) -> bool:
    """Whether an interrupt that ignores its id could stop only this prompt.

    Such a server stops whatever runs when the request arrives, which is the next prompt
    when this one ends a moment before (recording 07d: 11 of 12 times).
    """
    return queue.running == (prompt_id,) and not queue.pending
