"""Prompts in, their queue and history, and how to stop them."""

import time
import uuid
from typing import Any

from aiohttp import web

from comfy_worker.simulator.history import History
from comfy_worker.simulator.machinery import Machinery
from comfy_worker.simulator.prompt_queue import PromptQueue
from comfy_worker.simulator.validation import problem, validate
from comfy_worker.simulator.worker import PromptWorker

SECRETS = ("auth_token_comfy_org", "api_key_comfy_org")
"""extra_data that is never shown (recording 11)."""


class PromptRoutes:
    """Handlers for /prompt, /queue, /history, /interrupt and /free.

    Bodies of the wrong shape raise what Python raises on them; the server answers 500 then, as
    ComfyUI does (recordings 05, 07a and 07c).
    """

    def __init__(
        self,
        machinery: Machinery,
        queue: PromptQueue,
        history: History,
        worker: PromptWorker,
    ) -> None:
        self._machinery = machinery
        self._queue = queue
        self._history = history
        self._worker = worker
        self._number = 0

    def table(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/prompt", self._get_prompt),
            web.post("/prompt", self._post_prompt),
            web.get("/queue", self._get_queue),
            web.post("/queue", self._post_queue),
            web.get("/history", self._get_history),
            web.post("/history", self._post_history),
            web.get("/history/{prompt_id}", self._get_history_entry),
            web.post("/interrupt", self._post_interrupt),
            web.post("/free", self._post_free),
        ]

    async def _get_prompt(self, request: web.Request) -> web.Response:
        return web.json_response({"exec_info": {"queue_remaining": self._queue.remaining}})

    async def _post_prompt(self, request: web.Request) -> web.Response:
        body = await request.json()
        number = self._take_number(body)
        if "prompt" not in body or not isinstance(body, dict):
            return _refused(problem("no_prompt", "No prompt provided", "No prompt provided"))
        graph = body["prompt"]
        machinery = self._machinery
        prompt_id = str(body.get("prompt_id", uuid.uuid4()))
        if machinery.faults.ignores_prompt_ids:
            prompt_id = str(uuid.uuid4())
        verdict = validate(
            graph,
            body.get("partial_execution_targets"),
            classes=machinery.classes,
            options=machinery.options(),
            storage=machinery.storage,
        )
        if verdict.error is not None:
            return _refused(verdict.error, verdict.node_errors)
        extra_data = dict(body.get("extra_data", {}))
        if "client_id" in body:
            extra_data["client_id"] = body["client_id"]
        for secret in SECRETS:
            extra_data.pop(secret, None)
        extra_data["create_time"] = time.time_ns() // 1_000_000
        machinery.signals.note_queued(prompt_id)
        self._queue.put((number, prompt_id, graph, extra_data, verdict.outputs))
        if machinery.faults.lost_post_answers > 0 and request.transport is not None:
            machinery.faults.lost_post_answers -= 1
            request.transport.abort()
        if machinery.faults.misleading_500s > 0:
            machinery.faults.misleading_500s -= 1
            return web.Response(status=500, text="500 Internal Server Error")
        return web.json_response(
            {"prompt_id": prompt_id, "number": number, "node_errors": verdict.node_errors}
        )

    def _take_number(self, body: Any) -> float:
        """Return the prompt's place in the queue: what it asks for, or the next one.

        Prompts that are refused afterwards use up a number too (recording 05).
        """
        if "number" in body:
            return float(body["number"])
        number = self._number
        self._number += 1
        return -number if isinstance(body, dict) and body.get("front") else number

    async def _get_queue(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"queue_running": self._queue.running, "queue_pending": self._queue.pending}
        )

    async def _post_queue(self, request: web.Request) -> web.Response:
        body = await request.json()
        if _field(body, "clear"):
            self._queue.clear()
        if "delete" in body:
            for prompt_id in body["delete"]:
                self._queue.delete(prompt_id)
        return web.Response()

    async def _get_history(self, request: web.Request) -> web.Response:
        query = request.query
        max_items = int(query["max_items"]) if "max_items" in query else None
        return web.json_response(self._history.page(max_items, int(query.get("offset", -1))))

    async def _get_history_entry(self, request: web.Request) -> web.Response:
        return web.json_response(self._history.get(request.match_info["prompt_id"]))

    async def _post_history(self, request: web.Request) -> web.Response:
        body = await request.json()
        if _field(body, "clear"):
            self._history.clear()
        if "delete" in body:
            for prompt_id in body["delete"]:
                self._history.delete(prompt_id)
        return web.Response()

    async def _post_interrupt(self, request: web.Request) -> web.Response:
        try:
            body = await request.json()
        except ValueError:
            body = {}
        wanted = body.get("prompt_id")
        faults = self._machinery.faults
        if faults.untargeted_interrupts:
            wanted = None
        running = [item[1] for item in self._queue.running]
        if not faults.ignore_interrupts and (not wanted or wanted in running):
            self._machinery.interruption.request()
        self._machinery.signals.note_interrupt()
        return web.Response()

    async def _post_free(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body.get("free_memory"):
            self._worker.free_requested = True
        return web.Response()


def _field(body: Any, name: str) -> Any:
    """Return a field of a body; one without fields, such as a list, just has none of them."""
    if name not in body:
        return None
    return body[name]


def _refused(error: dict[str, Any], node_errors: dict[str, Any] | None = None) -> web.Response:
    return web.json_response({"error": error, "node_errors": node_errors or {}}, status=400)
