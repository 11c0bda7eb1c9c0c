"""Sending a prompt exactly once, also when the answer gets lost."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from comfy_worker.comfyui.client import ComfyClient, Submitted
from comfy_worker.comfyui.driver_settings import DriverSettings
from comfy_worker.comfyui.errors import ComfyUnreachableError, UnexpectedAnswerError
from comfy_worker.comfyui.graph import Graph
from comfy_worker.comfyui.lookup import look_up
from comfy_worker.comfyui.mailbox import Mailbox
from comfy_worker.comfyui.prompt_state import Absent
from comfy_worker.comfyui.session import Session
from comfy_worker.outage import Outage

_MOST_UNEXPECTED_ANSWERS: Final = 3
_PAUSE: Final = 0.25

log = structlog.get_logger(__name__)


async def submit(
    client: ComfyClient,
    session: Session,
    mailbox: Mailbox,
    *,
    prompt_id: str,
    graph: Graph,
    previews: bool,
    is_wanted: Callable[[], bool],
    settings: DriverSettings,
) -> Submitted | None:
    """Send the prompt, under the session's client id, and return what ComfyUI took.

    None when ``is_wanted`` says no before ComfyUI has it.

    ComfyUI queues a prompt id as often as it is sent (recording 04). So after a send
    that may have arrived, the queue and the history decide whether to send again.

    Raises PromptRejectedError; UnexpectedAnswerError after three of them; and
    ComfyUnreachableError when no answer comes within ``submit_grace``.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + settings.submit_grace
    unexpected = 0
    in_doubt = False
    outage = Outage(
        log.bind(prompt_id=prompt_id),
        begins="comfyui does not take the prompt, trying again",
        lasts="comfyui still does not take the prompt",
        ends="comfyui has taken the prompt",
    )
    while True:
        try:
            if in_doubt:
                if not isinstance(await look_up(client, prompt_id), Absent):
                    outage.over()
                    return Submitted(prompt_id, ())
                in_doubt = False
            if not is_wanted():
                return None
            await session.wait_connected(settings.socket_patience)
            mailbox.hears_events = session.connected
            submitted = await client.submit(
                graph, prompt_id=prompt_id, client_id=session.client_id, previews=previews
            )
        except ComfyUnreachableError as error:
            if loop.time() >= deadline:
                raise
            in_doubt = in_doubt or error.may_have_arrived
            outage.failed(str(error))
        except UnexpectedAnswerError as error:
            unexpected += 1
            if unexpected >= _MOST_UNEXPECTED_ANSWERS:
                raise
            in_doubt = True
            outage.failed(str(error))
        else:
            outage.over()
            return submitted
        await asyncio.sleep(_PAUSE)
