"""One line in the log for every call that changes something: who, what, to what, with what outcome.

A line holds names and numbers only: no prompt, no graph, no token, no text that somebody wrote.
Heartbeats and progress reports change nothing worth one, and so does a lease call that got no job.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Self

import structlog
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from job_service.api.call_kind import SERVICES
from job_service.jobs.principal import Principal
from job_service.jobs.refusals import RefusedError

_MOST_VALUES: Final = 20
_LONGEST_VALUE: Final = 255

_log = structlog.get_logger("audit")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Noted:
    """What a line says: names of its fields, and paths into the request and the response.

    ``only_with``: a field of the line without which there is no line, unless the call is refused.
    """

    asked: Mapping[str, str] = field(default_factory=dict)
    answered: Mapping[str, str] = field(default_factory=dict)
    only_with: str = ""


_ID: Final = _Noted(asked={"job_id": "id"})
_JOB_ID: Final = _Noted(asked={"job_id": "job_id"})
_WORKER: Final = _Noted(asked={"worker": "name"})
_DISPATCH: Final = _Noted(
    asked={
        "backend_label": "selector.backend_label",
        "checkpoint_model": "selector.checkpoint_model",
    }
)
_TEMPLATE: Final = _Noted(
    asked={"template": "template.name"}, answered={"version": "template.version"}
)
_OUTCOME: Final = {"worker": "worker.name", "job_id": "lease.job_id"}

_NOTED: Final[Mapping[str, Mapping[str, _Noted]]] = {
    "GenerationJobService": {
        "CreateJob": _Noted(answered={"job_id": "job.id", "owner": "job.user_id"}),
        "BatchCreateJobs": _Noted(answered={"job_id": "jobs.id", "owner": "jobs.user_id"}),
        "UpdateJob": _Noted(asked={"job_id": "job.id", "changed": "update_mask.paths"}),
        "DeleteJob": _Noted(asked={"job_id": "id"}, answered={"deleted": "deleted"}),
        "CancelJob": _ID,
        "BatchCancelJobs": _Noted(
            asked={"owner": "filter.user_id", "job_id": "filter.ids"},
            answered={"cancelled": "cancelled_count", "cancelling": "cancelling_count"},
        ),
        "RetryJob": _ID,
        "SetJobContent": _Noted(asked={"job_id": "id", "content_id": "content_id"}),
        "UploadInput": _Noted(answered={"input_id": "input.id"}),
        "CreateTemplate": _TEMPLATE,
        "UpdateTemplate": _TEMPLATE,
        "DeleteTemplate": _Noted(asked={"template": "name"}),
    },
    "ModelService": {
        "RefreshModels": _Noted(answered={"workers": "workers_asked"}),
    },
    "WorkerService": {
        "LeaseJobs": _Noted(
            asked={"worker": "worker.name"},
            answered={"job_id": "leases.job_id"},
            only_with="job_id",
        ),
        "UploadArtifact": _Noted(
            answered={"artifact_id": "artifact.id", "job_id": "artifact.job_id"}
        ),
        "UploadArtifacts": _Noted(
            asked={"worker": "completion.worker.name", "job_id": "files.header.lease.job_id"},
            answered={"artifact_id": "artifacts.id", "status": "completed.status"},
        ),
        "CompleteJob": _Noted(asked=_OUTCOME, answered={"status": "status"}),
        "FailJob": _Noted(asked=_OUTCOME | {"error": "error.code"}, answered={"status": "status"}),
        "ReleaseJob": _Noted(asked=_OUTCOME | {"why": "reason"}, answered={"status": "status"}),
        "ReportCatalogue": _Noted(asked={"worker": "worker.name", "backend": "catalogues.backend"}),
    },
    "OperatorService": {
        "DrainWorker": _WORKER,
        "ResumeWorker": _WORKER,
        "RequeueJob": _JOB_ID,
        "FailJobNow": _JOB_ID,
        "PauseDispatch": _DISPATCH,
        "ResumeDispatch": _DISPATCH,
    },
}

#: By the path of the method.
_BY_METHOD: Final[Mapping[str, _Noted]] = {
    f"{SERVICES}{service}/{rpc}": noted
    for service, rpcs in _NOTED.items()
    for rpc, noted in rpcs.items()
}

#: The methods that change something.
AUDITED: Final = frozenset(_BY_METHOD)


class Audit:
    """The line of one call, put together while it is served.

    ``caller``: None until it is known who calls.
    """

    def __init__(self, method: str, noted: _Noted) -> None:
        self.caller: Principal | None = None
        self._method = method.rpartition("/")[2]
        self._noted = noted
        self._about: dict[str, Any] = {}

    @classmethod
    def of(cls, method: str) -> Self | None:
        """The line of a call; None: the method changes nothing."""
        noted = _BY_METHOD.get(method)
        return None if noted is None else cls(method, noted)

    def asked(self, request: Any) -> None:
        """Note what the request is about; a stream of requests says nothing beforehand."""
        if isinstance(request, Message):
            self._note(request, self._noted.asked)

    def answered(self, response: Message) -> None:
        """Note what the response says."""
        self._note(response, self._noted.answered)

    def done(self) -> None:
        """The call has been answered."""
        if not self._noted.only_with or self._noted.only_with in self._about:
            self._write("OK", "")

    def refused(self, error: RefusedError) -> None:
        """The call has been refused."""
        self._write(error.refusal.status.name, error.refusal.reason)

    def _note(self, message: Message, paths: Mapping[str, str]) -> None:
        for name, path in paths.items():
            values = _reader(message.DESCRIPTOR, path)(message)
            if len(values) == 1:
                self._about[name] = values[0]
            elif values:
                self._note_several(name, list(dict.fromkeys(values)))

    def _note_several(self, name: str, values: Sequence[Any]) -> None:
        self._about[name] = values[0] if len(values) == 1 else values[:_MOST_VALUES]
        if len(values) > _MOST_VALUES:
            self._about[f"{name}_count"] = len(values)

    def _write(self, code: str, reason: str) -> None:
        caller = self.caller
        who = {}
        if caller is not None:
            who = {"subject": caller.subject, "role": str(caller.role)}
            if caller.on_behalf_of is not None:
                who["on_behalf_of"] = str(caller.on_behalf_of)
        outcome = {"code": code} | ({"reason": reason} if reason else {})
        _log.info("audit", method=self._method, **who, **self._about, **outcome)


@cache  # every call that changes something is read by some
def _reader(described: Descriptor, path: str) -> Callable[[Message], Sequence[Any]]:
    """What reads everything that is set at a path; of repeated fields on the way, each."""
    name, _, rest = path.partition(".")
    field = described.fields_by_name[name]
    plain = _plain(field)
    within = _reader(field.message_type, rest) if rest else None

    is_repeated, has_presence = field.is_repeated, field.has_presence

    def read(message: Message) -> Sequence[Any]:
        value = getattr(message, name)
        if is_repeated:
            found: Iterable[Any] = value
        elif message.HasField(name) if has_presence else value:
            found = (value,)
        else:
            return ()
        if within is None:
            return [plain(one) for one in found]
        return [each for one in found for each in within(one)]

    return read


def _plain(field: FieldDescriptor) -> Callable[[Any], Any]:
    """What makes a number, or a short text on one line; of an enumeration, the name."""
    if field.enum_type is not None:
        names = {known.number: known.name for known in field.enum_type.values}
        return lambda value: names.get(value, value)
    return _text if field.type == FieldDescriptor.TYPE_STRING else _itself


def _text(value: str) -> str:
    shown = value[:_LONGEST_VALUE]
    return shown if shown.isprintable() else ascii(shown)


def _itself(value: Any) -> Any:
    return value
