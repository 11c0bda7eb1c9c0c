"""The life of a prompt: queue, run, cache, previews, interrupt, history."""

import asyncio
import io
import json
import struct

import pytest
from PIL import Image

from comfy_worker.simulator import Simulator, SimulatorSettings
from tests.worker.simulator.client import Client, images, plain_image, text_to_image, types


async def test_progress_is_reported_for_every_step(client: Client) -> None:
    prompt_id = await client.submit(text_to_image(steps=5), prompt_id="five")
    messages = await client.messages_until_end(prompt_id)

    progress = [each["data"] for each in messages if each["type"] == "progress"]
    assert progress == [
        {"value": step, "max": 5, "prompt_id": "five", "node": "3"} for step in range(1, 6)
    ]


async def test_success_is_told_before_the_history_knows_it(
    client: Client, simulator: Simulator
) -> None:
    simulator.faults.history_delay_seconds = 0.2
    prompt_id = await client.submit(plain_image())
    async with asyncio.timeout(10):
        while (await client.socket.receive_json())["type"] != "execution_success":
            pass

    assert await client.get(f"/history/{prompt_id}") == {}
    await client.messages_until_end(prompt_id)
    assert (await client.history(prompt_id))["status"]["completed"] is True


async def test_a_cached_prompt_reports_the_old_files_and_renders_nothing(
    client: Client, simulator: Simulator
) -> None:
    first = images(await client.run(text_to_image(), prompt_id="first"))
    again = images(await client.run(text_to_image(), prompt_id="again"))

    assert again == first
    assert (simulator.signals.rendered["first"], simulator.signals.rendered["again"]) == (1, 0)
    directory = simulator.settings.output_directory
    assert directory is not None
    (directory / first[0]["filename"]).unlink()
    assert images(await client.run(text_to_image())) == first
    assert await client.status(f"/view?filename={first[0]['filename']}") == 404


async def test_a_cached_prompt_without_client_reports_no_outputs(
    client: Client, simulator: Simulator
) -> None:
    await client.run(plain_image())
    assert await client.post("/prompt", {"prompt": plain_image(), "prompt_id": "quiet"}) == 200
    await simulator.signals.prompt_ended("quiet")

    entry = await client.history("quiet")
    assert entry["status"]["status_str"] == "success"
    assert entry["outputs"] == {}


async def test_two_prompts_under_one_id_both_run(client: Client, simulator: Simulator) -> None:
    await client.run(plain_image(1), prompt_id="twice")
    entry = await client.run(plain_image(2), prompt_id="twice")

    assert simulator.signals.rendered["twice"] == 2
    assert images(entry)[0]["filename"] == "plain_00002_.png"


async def test_previews_carry_metadata_after_the_handshake(client: Client) -> None:
    handshake = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
    await client.socket.send_str(json.dumps(handshake))
    prompt_id = await client.submit(
        text_to_image(steps=4), prompt_id="shown", extra_data={"preview_method": "latent2rgb"}
    )
    frames = [
        each for each in await client.messages_until_end(prompt_id) if isinstance(each, bytes)
    ]

    assert len(frames) == 4
    event, length = struct.unpack(">II", frames[-1][:8])
    metadata = json.loads(frames[-1][8 : 8 + length])
    assert event == 4
    assert (metadata["prompt_id"], metadata["node_id"]) == ("shown", "3")
    assert metadata["image_type"] == "image/jpeg"
    with Image.open(io.BytesIO(frames[-1][8 + length :])) as image:
        assert (image.format, max(image.size)) == ("JPEG", 512)


async def test_previews_are_plain_without_the_handshake_and_get_sharper(client: Client) -> None:
    prompt_id = await client.submit(
        text_to_image(steps=4), extra_data={"preview_method": "latent2rgb"}
    )
    messages = await client.messages_until_end(prompt_id)

    frames = [each for each in messages if isinstance(each, bytes)]
    assert [struct.unpack(">II", frame[:8]) for frame in frames] == [(1, 1)] * 4
    sizes = [len(frame) for frame in frames]
    assert sizes == sorted(sizes)  # more detail takes more bytes
    assert types(messages).index("binary") > types(messages).index("progress")


async def test_previews_come_only_where_asked_for(client: Client) -> None:
    prompt_id = await client.submit(text_to_image())
    assert "binary" not in types(await client.messages_until_end(prompt_id))

    settings = SimulatorSettings(time_scale=0, preview_method="latent2rgb")
    async with Simulator(settings) as previewing, Client(previewing.url) as other:
        prompt_id = await other.submit(text_to_image())
        assert "binary" in types(await other.messages_until_end(prompt_id))
        prompt_id = await other.submit(text_to_image(seed=2), extra_data={"preview_method": "none"})
        assert "binary" not in types(await other.messages_until_end(prompt_id))


async def test_an_interrupt_stops_the_run_at_its_step(client: Client, simulator: Simulator) -> None:
    hold = simulator.faults.hold("stopped", step=3)
    await client.submit(text_to_image(steps=20), prompt_id="stopped")
    await hold.reached()
    assert await client.post("/interrupt", {"prompt_id": "stopped"}) == 200
    messages = await client.messages_until_end("stopped")

    assert types(messages)[-3:] == ["execution_interrupted", "status", "executing"]
    entry = await client.history("stopped")
    assert entry["status"]["status_str"] == "error"
    assert entry["status"]["messages"][-1][0] == "execution_interrupted"
    assert simulator.signals.steps["stopped"] == 2
    assert simulator.signals.completed["stopped"] == 0


async def test_an_interrupt_of_another_prompt_stops_nothing(
    client: Client, simulator: Simulator
) -> None:
    hold = simulator.faults.hold("kept", step=2)
    await client.submit(text_to_image(), prompt_id="kept")
    await hold.reached()
    assert await client.post("/interrupt", {"prompt_id": "other"}) == 200
    hold.release()
    await client.messages_until_end("kept")

    assert (await client.history("kept"))["status"]["completed"] is True


async def test_a_deleted_pending_prompt_leaves_no_trace(
    client: Client, simulator: Simulator
) -> None:
    hold = simulator.faults.hold("running")
    await client.submit(text_to_image(), prompt_id="running")
    await hold.reached()
    await client.submit(plain_image(), prompt_id="waiting")
    assert [item[1] for item in (await client.get("/queue"))["queue_pending"]] == ["waiting"]
    assert await client.post("/queue", {"delete": ["waiting"]}) == 200
    hold.release()
    await client.messages_until_end("running")

    assert await client.get("/queue") == {"queue_running": [], "queue_pending": []}
    assert await client.get("/history/waiting") == {}
    assert simulator.signals.started["waiting"] == 0


async def test_the_lowest_number_runs_first(client: Client, simulator: Simulator) -> None:
    hold = simulator.faults.hold("running")
    await client.submit(text_to_image(), prompt_id="running")
    await hold.reached()
    await client.submit(plain_image(1), prompt_id="normal")
    await client.submit(plain_image(2), prompt_id="front", front=True)
    await client.submit(plain_image(3), prompt_id="late", number=1e9)
    await client.submit(plain_image(4), prompt_id="first", number=-99.5)
    hold.release()
    await simulator.signals.prompt_ended("late")

    order = list(await client.get("/history"))
    assert order == ["running", "first", "front", "normal", "late"]
    assert list(await client.get("/history?max_items=2")) == ["normal", "late"]


async def test_http_answers_while_pictures_are_drawn(client: Client) -> None:
    prompt_id = await client.submit(text_to_image(size=(2048, 2048), batch_size=4))
    answered = 0
    ended = asyncio.create_task(client.messages_until_end(prompt_id))
    while not ended.done():
        await client.get("/queue")
        answered += 1

    # Drawing four large pictures takes hundreds of milliseconds; an answer takes one or two.
    assert answered > 20
    await ended


async def test_free_forgets_results(client: Client) -> None:
    first = await client.run(plain_image())
    assert await client.post("/free", {"unload_models": True, "free_memory": True}) == 200
    second = await client.run(plain_image())

    assert images(first) != images(second)


async def test_a_batch_that_cannot_be_ordered_is_still_run(
    client: Client, simulator: Simulator
) -> None:
    hold = simulator.faults.hold("running")
    await client.submit(text_to_image(), prompt_id="running")
    await hold.reached()
    body = {"prompt": plain_image(), "prompt_id": "twin", "number": 7}
    answers = [await client.post("/prompt", body) for _ in range(4)]
    hold.release()
    await simulator.signals.prompt_ended("twin", times=4)

    assert answers[0] == 200
    assert 500 in answers


@pytest.mark.parametrize("extra_pnginfo", [None, {"workflow": None}])
async def test_null_png_info_breaks_the_list_of_jobs_alone(
    extra_pnginfo: object, client: Client
) -> None:
    prompt_id = "poison"
    await client.run(
        plain_image(), prompt_id=prompt_id, extra_data={"extra_pnginfo": extra_pnginfo}
    )

    assert await client.status("/api/jobs") == 500
    assert (await client.history(prompt_id))["status"]["completed"] is True
    assert await client.post("/history", {"delete": [prompt_id]}) == 200
    assert await client.status("/api/jobs") == 200
