"""Whatever others have put into jobs, workers and templates, genjobs drives no terminal with it."""

import asyncio
import contextlib
import json
import unicodedata
from itertools import cycle, islice
from pathlib import Path
from typing import Final

import grpc
import pytest
from google.protobuf.message import Message

from job_service.client import JobServiceClient
from tests.every_method import METHODS, start_call
from tests.hostile_text import KINDS
from tests.message_fields import is_text, paths, put
from tests.unit.client.command import Outcome, genjobs
from tests.valid_requests import ValidRequests

TEXTS: Final = [
    text.replace("{address}", "127.0.0.1:9")
    for kind in ("lines and terminals", "formats and markup", "Unicode")
    for text in KINDS[kind]
]
#: What of these is stored is shown to others.
STORING: Final = (
    "CreateJob",
    "UpdateJob",
    "CancelJob",
    "CreateTemplate",
    "ReportCatalogue",
    "LeaseJobs",
    "ReportProgress",
    "UploadArtifact",
    "FailJob",
    "FailJobNow",
    "PauseDispatch",
)
_BIDI: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def drives_a_terminal(text: str) -> list[str]:
    """The characters of a text that do more than to be seen, but for the ends of lines."""
    return [
        character
        for character in text
        if (unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _BIDI)
        and character != "\n"
    ]


@pytest.mark.heavy
@pytest.mark.timeout(600)
async def test_no_command_drives_the_terminal_with_what_others_wrote(
    service: str, channel: grpc.aio.Channel, jobs: JobServiceClient, tmp_path: Path
) -> None:
    assert await store_everything(channel) > 300
    ids = [str(job.id) async for job in jobs.list_jobs()][: 5 * 40 : 40]
    commands: list[tuple[str, ...]] = [
        ("list", "--limit", "200"),
        ("list", "--limit", "200", "--json"),
        ("templates",),
        ("templates", "--json"),
        ("workers", "--all"),
        ("workers", "--all", "--json"),
        ("queue",),
        *(
            (command, job_id, *options)
            for job_id in ids
            for command in ("get", "explain", "attempts")
            for options in ((), ("--json",))
        ),
        *(("download", job_id) for job_id in ids),
        *(("get", text) for text in TEXTS[::4] if "\0" not in text),
    ]
    await run_all(service, commands, tmp_path)


async def store_everything(channel: grpc.aio.Channel) -> int:
    """Put texts into every field, others into each; how often one was taken."""
    valid = await ValidRequests(channel, "box").ready()
    stored = 0
    texts = cycle(TEXTS)
    for method in METHODS:
        if method.name not in STORING:
            continue
        for path in paths(method.input_type, is_text):
            for text in islice(texts, 7):
                sent = await valid.of(method.name)
                put(sent[0], path, text)
                stored += await is_taken(channel, method, sent)
    return stored


async def is_taken(channel: grpc.aio.Channel, method: object, sent: list[Message]) -> bool:
    with contextlib.suppress(grpc.aio.AioRpcError):
        await start_call(channel, method, sent, timeout=20)  # type: ignore[arg-type]
        return True
    return False


async def run_all(service: str, commands: list[tuple[str, ...]], folder: Path) -> None:
    places = asyncio.Semaphore(4)

    async def run(arguments: tuple[str, ...]) -> Outcome:
        async with places:
            return await genjobs(service, *arguments, cwd=folder)

    for arguments, said in zip(commands, await asyncio.gather(*map(run, commands)), strict=True):
        shown = said.stdout + said.stderr
        assert not drives_a_terminal(shown), (arguments, shown[:2000])
        assert "Traceback" not in said.stderr, (arguments, said.stderr)
        if "--json" in arguments and said.code == 0 and arguments[0] in ("get", "explain"):
            json.loads(said.stdout)
