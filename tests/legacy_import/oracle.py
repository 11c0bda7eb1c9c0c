"""What must be found of former rows, worked out from the rules and not from the importer.

A value is at home where a job has a place for it. One that the place cannot hold as it was is kept
as it was in ``params.legacy``, under its former column; of a request that was combined with a job,
under ``request.`` and its column. Nothing else may happen to a value, and nothing may come from
nowhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from generation_jobs.v1 import job_pb2

from tests.legacy_import import exact
from tests.legacy_import.homes import HOMES, OF_FIELD, Home
from tests.legacy_import.old_content import Row, Stored
from tests.legacy_import.reading import Reading

_AT_REST: Final = {
    "completed": job_pb2.JOB_STATUS_COMPLETED,
    "failed": job_pb2.JOB_STATUS_FAILED,
    "cancelled": job_pb2.JOB_STATUS_CANCELLED,
}
#: JSON's own null is no value.
_DOCUMENTS: Final = (
    "params", "parameters", "lora_models", "sampler_params", "output_paths", "thumbnail_paths"
)  # fmt: skip
ACTIVE: Final = ("running", "processing", "started")


@dataclass(frozen=True)
class Source:
    """A former row that a job came from."""

    table: str
    row: Row

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"{self.table} {self.row['id']}"


@dataclass(frozen=True)
class Imported:
    """A job and the rows it came from: a job, a request, or both."""

    message: job_pb2.GenerationJob
    sources: list[Source] = field(default_factory=list)

    @property
    def params(self) -> dict[str, Any]:
        """Its free parameters."""
        found = exact.read(self.message.params_json)
        assert isinstance(found, dict)
        return found

    def kept(self, source: Source, column: str, text: str) -> bool:
        """Whether a value is kept word for word under its former column."""
        legacy = self.params.get("legacy", {})
        keys = [f"request.{column}", column] if source.table == "request" else [column]
        return any(key in legacy and _verbatim(legacy[key]["value"], text) for key in keys)


def _verbatim(found: Any, text: str) -> bool:
    if found == text:
        return True
    try:
        return exact.fits_jsonb(text) and bool(exact.read(text) == found)
    except ValueError:
        return False


def nothing_is_lost(old: Stored, new: Reading, *, running: str = "requeue") -> None:
    """Assert that every former value is where it must be, and nothing else is."""
    problems = discrepancies(old, new, running=running)
    assert not problems, "\n".join(problems)


def discrepancies(old: Stored, new: Reading, *, running: str = "requeue") -> list[str]:
    """In words, what is not as it must be."""
    return [*_missing(old, new), *_of_jobs(old, new, running)]


def _missing(old: Stored, new: Reading) -> Iterator[str]:
    for job_id in old.jobs.keys() - new.jobs.keys():
        yield f"job {job_id} is gone"
    for request_id in old.requests.keys() - new.by_request.keys():
        yield f"request {request_id} is not found"
    known = old.jobs.keys() | {job.id for job in new.by_request.values()}
    for job_id in new.jobs.keys() - known:
        yield f"job {job_id} came from nowhere"
    highest = max(old.jobs, default=0)
    for request_id, job in new.by_request.items():
        if job.id not in old.jobs and job.id <= highest:
            yield f"request {request_id} became job {job.id}, which is no new id"


def _of_jobs(old: Stored, new: Reading, running: str) -> Iterator[str]:
    requests = {job.id: old.requests[request_id] for request_id, job in new.by_request.items()}
    for job_id, message in new.jobs.items():
        imported = Imported(message)
        if job_id in old.jobs:
            imported.sources.append(Source("job", old.jobs[job_id]))
        if job_id in requests:
            imported.sources.append(Source("request", requests[job_id]))
        if len(imported.sources) == 2 and not _are_one(*(one.row for one in imported.sources)):
            yield f"job {job_id} and request {requests[job_id]['id']} have nothing in common"
        for problem in _of_job(imported, running):
            yield f"job {job_id}: {problem}"
    yield from _left_apart(old, new)


def _are_one(job: Row, request: Row) -> bool:
    if _same_prompt_id(job, request):
        return True
    return all(job[column] == request[column] for column in ("user_id", "prompt", "created_at"))


def _same_prompt_id(job: Row, request: Row) -> bool:
    known = job.get("comfyui_prompt_id")
    return bool(known) and known == request["comfyui_prompt_id"]


def _left_apart(old: Stored, new: Reading) -> Iterator[str]:
    """A request and a job that are one, and each of them remained alone."""
    combined = {job.id for job in new.by_request.values()}
    for request_id, found in new.by_request.items():
        if found.id in old.jobs:
            continue
        request = old.requests[request_id]
        for job_id, job in old.jobs.items():
            certain = all(job[column] is not None for column in ("user_id", "prompt", "created_at"))
            sure = certain or _same_prompt_id(job, request)
            if job_id not in combined and _are_one(job, request) and sure:
                yield f"job {job_id} and request {request_id} were not combined"


def _of_job(imported: Imported, running: str) -> Iterator[str]:
    yield from _status(imported, running)
    for name, columns in OF_FIELD.items():
        values = [
            (source, column, text)
            for source in imported.sources
            for column in columns
            if (text := source.row.get(column)) is not None
            and not (column in _DOCUMENTS and text == "null")
        ]
        yield from _field(imported, HOMES[name], values)
    for source in imported.sources:
        for column, text in source.row.items():
            known = any(column in columns for columns in OF_FIELD.values())
            if column in ("id", "status") or known or text is None:
                continue
            if not imported.kept(source, column, text):
                yield f"{source.name}: {column} = {text[:80]!r} is lost"
    yield from _invented(imported)


def _field(imported: Imported, home: Home, values: list[tuple[Source, str, str]]) -> Iterator[str]:
    settled = False
    for source, column, text in values:
        at_home = home.holds(imported.message, text)
        settled |= at_home
        if not (at_home or imported.kept(source, column, text)):
            yield f"{source.name}: {column} = {text[:80]!r} is lost"
    partly = any(home.holds_part(imported.message, text) for _, _, text in values)
    # of what a job and its request say, the job's word counts, also when it does not fit
    for source, column, text in values[:1]:
        if not (settled or partly) and home.must_hold(imported.message, text):
            yield f"{source.name}: {column} = {text[:80]!r} would have fitted"
    if not (settled or partly or home.is_empty(imported.message)):
        yield f"{home.name} came from nowhere"


def _status(imported: Imported, running: str) -> Iterator[str]:
    message = imported.message
    words = [source.row["status"] for source in imported.sources]
    allowed: set[int] = set()
    for word in words:
        if word in _AT_REST:
            allowed.add(_AT_REST[word])
        elif word == "pending":
            allowed.add(job_pb2.JOB_STATUS_PENDING)
        elif word in ACTIVE:
            failing = running == "fail"
            allowed.add(job_pb2.JOB_STATUS_FAILED if failing else job_pb2.JOB_STATUS_PENDING)
        else:  # a word that nobody knows: at rest, whatever was meant
            allowed.update(_AT_REST.values())
    if message.status not in allowed:
        yield f"was {words}, is {job_pb2.JobStatus.Name(message.status)}"
    if message.status == job_pb2.JOB_STATUS_RUNNING:
        yield "is said to be running"
    for source in imported.sources:
        word = source.row["status"]
        same = _AT_REST | {"pending": job_pb2.JOB_STATUS_PENDING}
        changed = word is not None and same.get(word) != message.status
        if changed and not imported.kept(source, "status", word or ""):
            yield f"{source.name}: that it was {word!r} is lost"


def _invented(imported: Imported) -> Iterator[str]:
    message, params = imported.message, imported.params
    known = {"legacy"}
    for source in imported.sources:
        for column in ("parameters", "params"):
            text = source.row.get(column)
            value = exact.read(text) if text is not None else None
            known |= value.keys() if isinstance(value, dict) else set()
    for key in params.keys() - known:
        yield f"params.{key} came from nowhere"
    untouched = job_pb2.GenerationJob(
        backend="comfyui", priority=0, max_attempts=3, attempt_timeout=message.attempt_timeout
    )
    for name in (
        "labels", "backend", "priority", "scheduled_at", "expires_at", "max_attempts", "inputs",
        "attempts_charged", "cancel_requested_at", "cancel_reason", "attempts", "template",
        "workflow_json", "request_id", "worker", "comfyui_backend",
    ):  # fmt: skip
        if getattr(message, name) != getattr(untouched, name):
            yield f"{name} = {getattr(message, name)!r} came from nowhere"
    from_request = any(source.table == "request" for source in imported.sources)
    if message.HasField("legacy_request_id") != from_request:
        yield "legacy_request_id is wrong"
