"""However fast ComfyUI sends, a prompt's mailbox holds its newest state and nothing else."""

import asyncio
import tracemalloc

from comfy_worker.comfyui.events import (
    Executing,
    ExecutionStart,
    ExecutionSuccess,
    PreviewImage,
    StepProgress,
)
from comfy_worker.comfyui.mailbox import Mailbox
from comfy_worker.comfyui.progress import Phase, ProgressTracker
from comfy_worker.comfyui.sent_pictures import SentPictures
from tests.worker.comfyui.graphs import text_to_image


def mailbox() -> Mailbox:
    graph = text_to_image()
    return Mailbox(ProgressTracker(graph), SentPictures(graph, None, 0))


async def test_a_flood_nobody_reads_leaves_the_newest_preview_and_bounded_memory() -> None:
    box = mailbox()
    box.deliver(ExecutionStart("p"))
    box.deliver(Executing("p", "sampler"))
    tracemalloc.start()
    for step in range(24_000):
        box.deliver(StepProgress("p", "sampler", step % 28, 28))
        box.deliver(PreviewImage("p", "sampler", "image/jpeg", step.to_bytes(40_000)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
    newest = box.take_preview()
    assert newest is not None
    assert int.from_bytes(newest.data) == 23_999
    assert box.take_preview() is None
    assert box.progress.phase is Phase.SAMPLING


async def test_news_are_waited_for_and_seen_once() -> None:
    box = mailbox()
    assert not await box.changed(0.01)
    box.deliver(ExecutionStart("p"))
    assert await box.changed(10)
    assert not await box.changed(0.01)


async def test_the_end_of_the_run_is_told_apart_from_its_last_node() -> None:
    box = mailbox()
    box.deliver(ExecutionSuccess("p"))
    assert (box.ending, box.over) == (True, False)
    box.deliver(Executing("p", None))
    assert box.over


async def test_a_changed_queue_matters_only_to_prompts_that_are_not_heard() -> None:
    box = mailbox()
    box.hears_events = True
    box.queue_changed()
    assert not box.worth_a_look
    box.connection_changed()
    assert box.worth_a_look
    box.worth_a_look = False
    box.queue_changed()
    assert box.worth_a_look
    await asyncio.wait_for(box.changed(10), 1)
