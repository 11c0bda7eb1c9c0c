"""Prompts as jobs: `/api/jobs`, there since 0.8.0 (recordings 01, 11 and 20).

Later versions stop a job too: ComfyUI's pull request 14493 says what `/cancel` answers.
"""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from comfy_worker.simulator.history import History, HistoryEntry
from comfy_worker.simulator.machinery import Machinery
from comfy_worker.simulator.prompt_queue import PromptQueue, QueueItem

STATUSES = ("pending", "in_progress", "completed", "failed")

Job = dict[str, Any]


class JobRoutes:
    """Handlers for /api/jobs."""

    def __init__(self, machinery: Machinery, queue: PromptQueue, history: History) -> None:
        self._machinery = machinery
        self._queue = queue
        self._history = history

    def table(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/api/jobs", self._list),
            web.get("/api/jobs/{job_id}", self._get),
            web.post("/api/jobs/{job_id}/cancel", self._cancel),
        ]

    async def _cancel(self, request: web.Request) -> web.Response:
        faults = self._machinery.faults
        if not faults.cancels_jobs:
            raise web.HTTPMethodNotAllowed(request.method, ["GET"])
        job_id = request.match_info["job_id"]
        cancelled = self._queue.delete(job_id)
        if not cancelled and job_id in [item[1] for item in self._queue.running]:
            cancelled = True
            if not faults.ignore_interrupts:
                self._machinery.interruption.request()
            self._machinery.signals.note_interrupt()
        return web.json_response({"cancelled": cancelled})

    async def _get(self, request: web.Request) -> web.Response:
        job_id = request.match_info["job_id"]
        found = self._history.get(job_id)
        if found:
            return web.json_response(_finished(found[job_id], full=True))
        waiting = next((job for job in self._unfinished() if job["id"] == job_id), None)
        if waiting is None:
            return web.json_response({"error": "Job not found"}, status=404)
        return web.json_response(waiting)

    async def _list(self, request: web.Request) -> web.Response:
        query = request.query
        try:
            wanted = _statuses(query.get("status", ""))
            limit = _integer(query, "limit", None)
            if limit is not None and limit <= 0:
                return _bad_request("limit must be a positive integer")
            offset = max(_integer(query, "offset", 0) or 0, 0)
        except ValueError as error:
            return _bad_request(str(error))
        finished = [_finished(entry) for entry in self._history.page().values()]
        jobs = [job for job in self._unfinished() + finished if job["status"] in wanted]
        if "workflow_id" in query:
            jobs = [job for job in jobs if job.get("workflow_id") == query["workflow_id"]]
        measure = _duration if query.get("sort_by") == "execution_duration" else _created
        order = sorted(
            range(len(jobs)),
            key=lambda place: (measure(jobs[place]), place),
            reverse=query.get("sort_order", "desc") != "asc",
        )
        jobs = [jobs[place] for place in order]
        end = len(jobs) if limit is None else offset + limit
        pagination = {
            "offset": offset,
            "limit": limit,
            "total": len(jobs),
            "has_more": end < len(jobs),
        }
        return web.json_response({"jobs": jobs[offset:end], "pagination": pagination})

    def _unfinished(self) -> list[Job]:
        running = [_waiting(item, "in_progress") for item in self._queue.running]
        return running + [_waiting(item, "pending") for item in self._queue.pending]


def _waiting(item: QueueItem, status: str) -> Job:
    number, prompt_id, _, extra_data, _ = item
    job: Job = {
        "id": prompt_id,
        "status": status,
        "priority": number,
        "create_time": extra_data.get("create_time"),
        "outputs_count": 0,
    }
    return job | _workflow_id(extra_data)


def _finished(entry: HistoryEntry, *, full: bool = False) -> Job:
    number, prompt_id, graph, extra_data, _ = entry["prompt"]
    messages: dict[str, Any] = dict(entry["status"]["messages"])
    outputs = _outputs(entry["outputs"])
    job: Job = {
        "id": prompt_id,
        "status": "completed" if entry["status"]["completed"] else "failed",
        "priority": number,
        "create_time": extra_data.get("create_time"),
        "execution_start_time": messages["execution_start"]["timestamp"],
        "execution_end_time": entry["status"]["messages"][-1][1]["timestamp"],
    }
    if "execution_error" in messages:
        job["execution_error"] = messages["execution_error"]
    job["outputs_count"] = len(outputs)
    if outputs:
        saved = [output for output in outputs if output.get("type") == "output"]
        job["preview_output"] = (saved or outputs)[0]
    job |= _workflow_id(extra_data)
    if full:
        job["outputs"] = entry["outputs"]
        job["execution_status"] = entry["status"]
        job["workflow"] = {"prompt": graph, "extra_data": extra_data}
    return job


def _outputs(shown: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the files among what the nodes showed."""
    return [
        item | {"nodeId": node_id, "mediaType": media_type}
        for node_id, groups in shown.items()
        for media_type, items in groups.items()
        for item in items
        if isinstance(item, dict)
    ]


def _workflow_id(extra_data: Mapping[str, Any]) -> Job:
    """Return {workflow_id} if there is one.

    Raises:
        AttributeError: extra_pnginfo or its workflow is null. The whole list answers 500 then,
            as ComfyUI's does (recording 11).

    """
    workflow_id = extra_data.get("extra_pnginfo", {}).get("workflow", {}).get("id")
    return {} if workflow_id is None else {"workflow_id": workflow_id}


def _statuses(text: str) -> tuple[str, ...]:
    wanted = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    unknown = [status for status in wanted if status not in STATUSES]
    if unknown:
        known = ", ".join(STATUSES)
        raise ValueError(f"Invalid status value(s): {', '.join(unknown)}. Valid values: {known}")
    return wanted or STATUSES


def _integer(query: Mapping[str, str], name: str, default: int | None) -> int | None:
    if name not in query:
        return default
    try:
        return int(query[name])
    except ValueError:
        raise ValueError(f"{name} must be an integer") from None


def _created(job: Job) -> int:
    return int(job["create_time"] or 0)


def _duration(job: Job) -> int:
    return int(job.get("execution_end_time", 0) - job.get("execution_start_time", 0))


def _bad_request(message: str) -> web.Response:
    return web.json_response({"error": message}, status=400)
