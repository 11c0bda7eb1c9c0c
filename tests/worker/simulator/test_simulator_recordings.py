"""A simulator answers what was recorded of a genuine ComfyUI 0.8.0, message by message.

Each recording is sent again, request by request. Compared are, in order: the WebSocket messages
of every connection (type, all fields, and every value that the requests determine) and the HTTP
answers (status, content type, all fields).

What cannot be equal, and is not compared:
- wordings of tooltips, Python tracebacks, and the text of exceptions: ours are our own;
- generated prompt ids (mapped to the recorded ones), times, and the running `number`, which
  depends on what was sent before the recording began;
- file names: their counters continue from earlier recordings (`slow_00005_`). Their pattern is;
- history entries and jobs of prompts that earlier recordings sent, and with them the
  `pagination` totals: the simulator begins empty;
- the order of a node's errors, of `outputs_to_execute`, of `executed` and of `current_outputs`:
  sets in ComfyUI;
- in 04, 05, 07d and 20 the place of `status` among the other messages and the counts in it,
  because some prompts were sent while the one before was about to begin or to end; how many
  there are and their fields are compared;
- the sid that a client without clientId is given; the order of jobs by duration;
- in 11 what follows "queue layout, priorities" (nobody listened, so that nothing tells when the
  client looked), in 12 the request for a class that server did not have, in 15 the node that
  wrote the list of routes;
- 01, 09, 10, 13 and 16 to 19, which show other servers' paths, killed processes, uploads without
  their bodies, or measurements; 08b and 08c, whose clients missed messages. Tests of their own
  cover what they show of 08b, 08c, 10 and 16;
- preview frames beyond their header: format and size are compared, the picture is not.
"""

import asyncio
import base64
import io
import json
import re
import struct
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from comfy_worker.simulator import Simulator, SimulatorSettings
from tests.worker.simulator.replay import (
    Answer,
    Record,
    Replay,
    Traffic,
    load,
    recorded_traffic,
)

RECORDINGS = (
    "02_empty_save_noflags",
    "02_empty_save_flags",
    "03_cached_again",
    "04_client_prompt_id",
    "05_validation",
    "06_execution_error",
    "07a_delete_pending",
    "07b_interrupt_global",
    "07c_interrupt_by_id",
    "07d_interrupt_stubborn",
    "08a_two_clients",
    "08d_feature_flags_late",
    "11_history_queue",
    "12_preview_frames_noflags",
    "12_preview_frames_flags",
    "14_txt2img_tiny",
    "14_txt2img_full",
    "15_saveimage_websocket",
    "20_jobs_states",
)
# What was in the cache when these recordings began came from another one.
AFTER = {
    "07b_interrupt_global": "07a_delete_pending",
    "07c_interrupt_by_id": "07a_delete_pending",
    "07d_interrupt_stubborn": "07a_delete_pending",
    "08a_two_clients": "07a_delete_pending",
    "12_preview_frames_flags": "12_preview_frames_noflags",
    "14_txt2img_full": "14_txt2img_tiny",
}
# How many records are replayed, where it is not all of them.
FIRST_RECORDS = {
    "11_history_queue": 55,
    "12_preview_frames_noflags": 47,
    "12_preview_frames_flags": 46,
    "15_saveimage_websocket": 25,
}
# One interrupt of 07d arrived after a run's last message and before the next run began.
HISTORY_DELAY = {"07d_interrupt_stubborn": 0.1}
UNORDERED_STATUS = (
    "04_client_prompt_id",
    "05_validation",
    "07d_interrupt_stubborn",
    "20_jobs_states",
)
CHECKPOINTS = ("random-sd15.safetensors", "tiny-sd15.safetensors")
# A PNG that ends in the middle of its first chunk.
CORRUPT_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00"

SETS = ("executed", "current_outputs", "errors", "dependent_outputs")
OWN_WORDS = ("tooltip", "traceback", "exception_message")
UNDETERMINED = (
    *("number", "priority", "total", "timestamp", "create_time"),
    *("execution_start_time", "execution_end_time"),
)
IMAGE_NAME = re.compile(r"^(?P<stem>.+)_\d{5}_\.png$")
GENERATED_SID = re.compile(r"^[0-9a-f]{32}$")
TEMPORARY_NAME = re.compile(r"^ComfyUI_temp_[a-z]{5}_")


@pytest.fixture(params=RECORDINGS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def records_of(name: str) -> list[Record]:
    records = load(name)
    kept = records[: FIRST_RECORDS.get(name, len(records))]
    closing = [record for record in records[len(kept) :] if record.get("event") == "closed"]
    return kept + closing


async def replay(name: str, tmp_path: Path) -> Traffic:
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "corrupt.png").write_bytes(CORRUPT_PNG)
    settings = SimulatorSettings(
        time_scale=0,
        history_delay_seconds=HISTORY_DELAY.get(name, 0.001),
        checkpoints=CHECKPOINTS if name.startswith("14") else (),
        loras=("random-lora.safetensors",),
        output_directory=tmp_path / "output",
        input_directory=tmp_path / "input",
        probe_nodes=True,
    )
    async with asyncio.timeout(30), Simulator(settings) as simulator:
        if name in AFTER:
            await Replay(simulator, records_of(AFTER[name])).run()
        return await Replay(simulator, records_of(name)).run()


async def test_the_simulator_answers_as_recorded(name: str, tmp_path: Path) -> None:
    recorded = recorded_traffic(records_of(name))
    simulated = await replay(name, tmp_path)

    assert list(simulated.messages) == list(recorded.messages)
    for connection, messages in recorded.messages.items():
        expected = [comparable_message(message) for message in messages]
        actual = [comparable_message(message) for message in simulated.messages[connection]]
        if name in UNORDERED_STATUS:
            assert split_status(actual) == split_status(expected)
        else:
            assert actual == expected
    known = known_prompts(recorded)
    assert len(simulated.answers) == len(recorded.answers)
    for got, want in zip(simulated.answers, recorded.answers, strict=True):
        assert comparable_answer(got, known) == comparable_answer(want, known)


def comparable_message(message: Any) -> Any:
    """Return what two messages must have in common."""
    if isinstance(message, bytes):
        (event,) = struct.unpack(">I", message[:4])
        if event == 4:
            (length,) = struct.unpack(">I", message[4:8])
            metadata = json.loads(message[8 : 8 + length])
            return event, metadata, *picture(message[8 + length :])
        if event == 3:
            return message
        return event, struct.unpack(">I", message[4:8]), *picture(message[8:])
    if "base64" in message:
        return comparable_message(base64.b64decode(message["base64"]))
    return determined(message)


def picture(data: bytes) -> tuple[str | None, tuple[int, int]]:
    with Image.open(io.BytesIO(data)) as image:
        return image.format, image.size


def split_status(messages: list[Any]) -> tuple[list[Any], list[Any]]:
    """Return the messages other than `status`, and the fields of each `status`."""
    others = [message for message in messages if message["type"] != "status"]
    status = [fields(message) for message in messages if message["type"] == "status"]
    return others, status


def comparable_answer(answer: Answer, known: set[str]) -> Any:
    """Return what two answers must have in common."""
    body = answer.body
    if isinstance(body, dict):
        if answer.request.startswith("GET /history"):
            body = {prompt_id: entry for prompt_id, entry in body.items() if prompt_id in known}
        elif answer.request.startswith("GET /api/jobs") and "jobs" in body:
            jobs = [job for job in body["jobs"] if job["id"] in known]
            if "execution_duration" in answer.request:
                jobs.sort(key=itemgetter("id"))
            body = body | {"jobs": jobs}
    return answer.request, answer.status, answer.content_type, determined(body)


def known_prompts(traffic: Traffic) -> set[str]:
    return {
        answer.body["prompt_id"]
        for answer in traffic.answers
        if answer.request == "POST /prompt" and answer.status == 200
    }


def determined(value: Any, key: str = "") -> Any:
    """Replace what the requests do not determine by its type."""
    if key in UNDETERMINED or key in OWN_WORDS:
        return fields(value) if key != "traceback" else [str]
    if isinstance(value, dict):
        return {name: determined(each, name) for name, each in value.items()}
    if isinstance(value, list):
        if len(value) == 5 and isinstance(value[3], dict):
            number, *rest, outputs = value
            return [fields(number), *determined(rest), sorted(outputs)]
        items = [determined(each) for each in value]
        return sorted(items, key=repr) if key in SETS else items
    if isinstance(value, str):
        return generic_name(value)
    return value, type(value).__name__


def generic_name(text: str) -> str:
    """Replace what is left to chance in the name of a picture, and tensors, by a pattern."""
    if GENERATED_SID.match(text):
        return "generated sid"
    if text.startswith(("tensor(", "images(")):
        return "a picture"
    found = IMAGE_NAME.match(text)
    if found is None:
        return text
    return TEMPORARY_NAME.sub("temp_", f"{found['stem']}_00000_.png")


def fields(value: Any) -> Any:
    """Return the shape of a value: its keys and types."""
    if isinstance(value, dict):
        return {name: fields(each) for name, each in value.items()}
    if isinstance(value, list):
        return [fields(each) for each in value]
    return type(value).__name__
