"""Finding a prompt where ComfyUI keeps the truth."""

from collections.abc import Sequence

from comfy_worker.comfyui.client import ComfyClient
from comfy_worker.comfyui.prompt_state import (
    Absent,
    Ending,
    Finished,
    Pending,
    PromptState,
    Running,
    state_in_queue,
)


async def look_up(client: ComfyClient, prompt_id: str) -> PromptState:
    """Where the prompt stands.

    The queue is read before the history: a prompt leaves the one and enters the other
    in one step, so that in this order it cannot slip between the two.
    """
    state = state_in_queue(await client.queue(), prompt_id)
    if state is not None:
        return state
    entry = await client.history(prompt_id)
    return Absent() if entry is None else Finished(entry)


async def find_adoptable(client: ComfyClient, prompt_ids: Sequence[str]) -> str | None:
    """Return the first of ``prompt_ids`` that is queued, running or has succeeded, or None.

    One that failed or was interrupted says nothing about the next try.
    """
    if not prompt_ids:
        return None
    queue = await client.queue()
    for prompt_id in prompt_ids:
        match state_in_queue(queue, prompt_id):
            case Pending() | Running():
                return prompt_id
            case None:
                entry = await client.history(prompt_id)
                if entry is not None and entry.ending is Ending.SUCCEEDED:
                    return prompt_id
    return None
