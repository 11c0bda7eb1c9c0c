"""Sends what a recorded client sent to a simulator and collects what comes back.

Nothing here waits for time to pass: before each request the replay waits until everything has
arrived that the recorded client had received by then, and it holds a run in the middle wherever
the recorded client sent something in the middle of it.
"""

import asyncio
import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from comfy_worker.simulator import Hold, Simulator

RECORDINGS = Path(__file__).parents[2] / "recordings"
STEPPING = ("ProbeSlow", "ProbeStubborn", "KSampler")
# Bodies that were sent as JSON although the recording shows them as text.
JSON_TEXT = ("x",)

Record = dict[str, Any]


def load(name: str) -> list[Record]:
    records: list[Record] = json.loads((RECORDINGS / f"{name}.json").read_text())
    return records


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    request: str
    status: int
    content_type: str | None
    body: Any


@dataclass(slots=True)
class Traffic:
    """Everything a client got: HTTP answers in order, WebSocket messages by connection."""

    answers: list[Answer] = field(default_factory=list)
    messages: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))


def recorded_traffic(records: list[Record]) -> Traffic:
    """Return what the recorded client got; binary frames as (length, first bytes)."""
    traffic = Traffic()
    for record in records:
        if record["channel"] == "http" and record["direction"] == "response":
            kind = (record.get("headers") or {}).get("Content-Type")
            name = f"{record['method']} {record['path']}"
            traffic.answers.append(Answer(name, record["status"], kind, record["body"]))
        elif record.get("kind") == "text":
            traffic.messages[record["conn"]].append(record["body"])
        elif record.get("kind") == "binary":
            traffic.messages[record["conn"]].append(record)
    return traffic


class Replay:
    """One replay of one recording."""

    def __init__(self, simulator: Simulator, records: list[Record]) -> None:
        self._simulator = simulator
        records = _interrupts_at_their_answers(records)
        self._records = records
        self._traffic = Traffic()
        self._sockets: dict[str, aiohttp.ClientWebSocketResponse] = {}
        self._readers: list[asyncio.Task[None]] = []
        self._arrived = asyncio.Condition()
        self._ids: dict[str, str] = {}
        self._numbers: dict[str, list[float]] = defaultdict(list)
        self._holds: dict[tuple[str, int], Hold] = {}
        self._plan = _plan_holds(records)
        self._passed: set[tuple[str, int]] = set()

    async def run(self) -> Traffic:
        """Send everything in order; return what came back, under the recorded prompt ids."""
        for prompt_id, step in sorted(set(self._plan.values())):
            self._holds[prompt_id, step] = self._simulator.faults.hold(prompt_id, step=step)
        async with aiohttp.ClientSession(self._simulator.url) as session:
            expected: dict[str, int] = defaultdict(int)
            for index, record in enumerate(self._records):
                if record["channel"] == "note":
                    self._do_as_noted(record["text"])
                elif record["channel"] == "ws":
                    await self._replay_socket(session, record, expected)
                elif record["direction"] == "request":
                    await self._wait_for(expected)
                    if index in self._plan:
                        await self._holds[self._plan[index]].reached()
                        self._passed.add(self._plan[index])
                    await self._send(session, index, record)
            for reader in self._readers:
                await reader
        return self._traffic

    async def _replay_socket(
        self, session: aiohttp.ClientSession, record: Record, expected: dict[str, int]
    ) -> None:
        name = record["conn"]
        if record.get("event") == "open":
            self._sockets[name] = await session.ws_connect(record["path"], max_msg_size=0)
            self._readers.append(asyncio.create_task(self._read(name)))
        elif record.get("event") == "closed":
            await self._wait_for({name: expected[name]})
            await self._sockets[name].close()
        elif record["direction"] == "client->server":
            body = record["body"]
            await self._sockets[name].send_str(body if isinstance(body, str) else json.dumps(body))
        else:
            self._release_before(record)
            expected[name] += 1

    async def _read(self, name: str) -> None:
        async for message in self._sockets[name]:
            body = message.data
            if message.type is aiohttp.WSMsgType.TEXT:
                body = json.loads(self._with_recorded_ids(body))
            async with self._arrived:
                self._traffic.messages[name].append(body)
                self._arrived.notify_all()

    async def _wait_for(self, expected: dict[str, int]) -> None:
        messages = self._traffic.messages
        async with self._arrived:
            await self._arrived.wait_for(
                lambda: all(len(messages[name]) >= count for name, count in expected.items())
            )

    async def _send(self, session: aiohttp.ClientSession, index: int, record: Record) -> None:
        method, path = record["method"], record["path"]
        answer = next(each for each in self._records[index:] if each.get("status"))
        if method == "GET":
            for prompt_id, number in _finished_prompts(path, answer["body"]):
                if prompt_id in self._ids:
                    times = self._numbers[prompt_id].index(number) + 1
                    await self._simulator.signals.prompt_ended(self._ids[prompt_id], times=times)
        for recorded, simulated in self._ids.items():
            path = path.replace(recorded, simulated)
        body = record["body"]
        if path == "/queue" and isinstance(body, dict):
            for prompt_id in body.get("delete") or []:
                del self._numbers[prompt_id][:1]
        if path == "/prompt" and method == "POST":
            # Of two that are equal but for the millisecond of their creation, ComfyUI takes the
            # second only when that is equal, too.
            await asyncio.sleep(0.002)
        if body is not None and (not isinstance(body, str) or body in JSON_TEXT):
            body = json.dumps(body)
        async with session.request(method, path, data=body) as response:
            text = await response.text()
            kind = response.headers.get("Content-Type")
            is_json = kind is not None and kind.startswith("application/json")
            if path == "/prompt" and method == "POST" and response.status == 200:
                recorded_id = answer["body"]["prompt_id"]
                self._ids[recorded_id] = json.loads(text)["prompt_id"]
                self._numbers[recorded_id].append(answer["body"]["number"])
            text = self._with_recorded_ids(text)
            name = f"{method} {record['path']}"
            result = json.loads(text) if is_json else text
            self._traffic.answers.append(Answer(name, response.status, kind, result))

    def _release_before(self, record: Record) -> None:
        """Let a held run go on when the recorded one did: here is its next message."""
        body = record.get("body")
        if not isinstance(body, dict):
            return
        prompt_id = body["data"].get("prompt_id")
        for key in self._passed:
            if key[0] == prompt_id:
                self._holds[key].release()

    def _with_recorded_ids(self, text: str) -> str:
        for recorded, simulated in self._ids.items():
            if recorded != simulated:
                text = text.replace(simulated, recorded)
        return text

    def _do_as_noted(self, note: str) -> None:
        if note.startswith("output files removed from disk"):
            directory = self._simulator.settings.output_directory
            assert directory is not None
            for path in directory.glob("*.png"):
                path.unlink()


def _interrupts_at_their_answers(records: list[Record]) -> list[Record]:
    """Move each interrupt that stopped a run to where it was answered.

    An interrupt recorded right at the end of a run took effect on the next one, which had begun
    by the time it arrived (07d); nothing that was received before its answer follows from it.
    One of the twelve arrived before that and stopped nothing: it stays in its place.
    """
    moved: list[Record] = []
    interrupt: Record | None = None
    for index, record in enumerate(records):
        if record.get("path") == "/interrupt":
            if record["direction"] == "request" and _next_end(records[index:]) == "interrupted":
                interrupt = record
                continue
            if interrupt is not None:
                moved.append(interrupt)
                interrupt = None
        moved.append(record)
    return moved


def _next_end(records: list[Record]) -> str | None:
    """Return how the next run ends: success, error or interrupted."""
    ends = {f"execution_{end}": end for end in ("success", "error", "interrupted")}
    bodies = (record["body"] for record in records if record.get("kind") == "text")
    return next((ends[body["type"]] for body in bodies if body["type"] in ends), None)


def _plan_holds(records: list[Record]) -> dict[int, tuple[str, int]]:
    """Return {index of a request: (prompt in its middle then, step it has not reported yet)}."""
    view = _View()
    plan: dict[int, tuple[str, int]] = {}
    for index, record in enumerate(records):
        if record.get("event") == "open":
            view.clients.add(record["path"].partition("clientId=")[2])
        elif record["channel"] == "http" and record["direction"] == "request":
            middle = view.middle()
            if middle is not None:
                plan[index] = middle
            view.see_request(record["path"], record["body"])
        elif record.get("kind") == "text":
            view.see_message(record["body"]["type"], record["body"]["data"])
    return plan


@dataclass(slots=True)
class _View:
    """What the recorded client knew, at one point of a recording, of the prompts it had sent."""

    clients: set[str] = field(default_factory=set)
    waiting: list[str] = field(default_factory=list)
    next_step: dict[str, int] = field(default_factory=dict)
    unaddressed: set[str] = field(default_factory=set)  # nobody is told when they end

    def middle(self) -> tuple[str, int] | None:
        """Return the prompt that ran and the step it was about to report, if there was one."""
        if not self.waiting or self.next_step[self.waiting[0]] == 0:
            return None
        return self.waiting[0], self.next_step[self.waiting[0]]

    def see_request(self, path: str, body: Any) -> None:
        if not isinstance(body, dict):
            return
        if path == "/prompt" and "prompt_id" in body:
            self._see_prompt(str(body["prompt_id"]), body)
        elif path == "/queue":
            gone = self.waiting[1:] if body.get("clear") else body.get("delete") or []
            self.waiting[1:] = [each for each in self.waiting[1:] if each not in gone]

    def see_message(self, message_type: str, data: dict[str, Any]) -> None:
        prompt_id = str(data.get("prompt_id"))
        ended = message_type == "executing" and data["node"] is None
        if message_type == "progress":
            done = data["value"] >= data["max"]
            self.next_step[prompt_id] = 0 if done else data["value"] + 1
            ended = done and prompt_id in self.unaddressed
        elif message_type == "execution_interrupted":
            ended = prompt_id in self.unaddressed
        if ended and prompt_id in self.waiting:
            self.waiting.remove(prompt_id)

    def _see_prompt(self, prompt_id: str, body: dict[str, Any]) -> None:
        stepping = any(node["class_type"] in STEPPING for node in body["prompt"].values())
        client = body.get("client_id")
        if client is None:
            self.unaddressed.add(prompt_id)
        if client in self.clients or (client is None and stepping):
            if prompt_id not in self.waiting:
                self.next_step[prompt_id] = 1 if stepping else 0
            self.waiting.append(prompt_id)


def _finished_prompts(path: str, body: Any) -> list[tuple[str, float]]:
    """Return (prompt id, number) of the runs that a recorded answer shows as finished."""
    if path.startswith("/history") and isinstance(body, dict):
        return [(prompt_id, entry["prompt"][0]) for prompt_id, entry in body.items()]
    if path.startswith("/api/jobs/") and "execution_end_time" in body:
        return [(body["id"], body["priority"])]
    return []
