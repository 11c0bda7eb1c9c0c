"""What workers send, checked and turned into what the queue and the store take. Pure.

Functions note what is wrong in the checks they are given, and go on.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from generation_jobs.v1 import worker_service_pb2 as pb
from google.protobuf import json_format

from job_service.jobs import limits
from job_service.jobs.fields import FieldChecks
from job_service.jobs.node_signatures import PackedSignatures, check_signatures
from job_service.jobs.principal import Principal
from job_service.jobs.refusals import Refusal, RefusedError
from job_service.jobs.states import ROLE_FROM_WIRE, TYPE_FROM_WIRE
from job_service.queue.claim_round import WaitingBackend
from job_service.store.artifacts import NewArtifact
from job_service.store.completions import Completion
from job_service.store.lease_key import LeaseKey
from job_service.store.workers import Catalogue

MAX_LEASES: Final = 64
_MAX_BACKENDS: Final = 64
_MAX_LISTED: Final = 1024
_LONGEST_WAIT: Final = timedelta(seconds=60)
_LONGEST_RETRY: Final = timedelta(days=1)
_LONGEST_RUN: Final = timedelta(days=7)
_LONGEST_REMAINING: Final = timedelta(days=365)
_LONGEST_DURATION: Final = timedelta(days=1)
_NAME: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")


@dataclass(frozen=True, slots=True)
class Offered:
    """What a worker serves, and its ComfyUIs that can take prompts now."""

    job_types: list[str]
    backend_labels: list[str]
    backends: list[WaitingBackend]


def _word(checks: FieldChecks, path: str, value: str) -> str:
    """A name of letters, digits, ".", "-" and "_"."""
    checks.text(path, value, shortest=1, longest=limits.MAX_WORD)
    if not _NAME.issuperset(value):
        checks.wrong(path, 'must consist of letters, digits, ".", "-" and "_"')
    return value


def worker_identity(
    checks: FieldChecks, worker: pb.WorkerIdentity, caller: Principal, path: str = "worker"
) -> tuple[str, UUID]:
    """A worker's name and the id of its process.

    Raises RefusedError: WRONG_WORKER when the caller is bound to another name.
    """
    if caller.worker not in ("", worker.name):
        raise RefusedError(
            Refusal.WRONG_WORKER, f"{caller.subject} may work as {caller.worker!r} only"
        )
    name = _word(checks, f"{path}.name", worker.name)
    return name, checks.uuid(f"{path}.instance_id", worker.instance_id) or UUID(int=0)


def lease_key(checks: FieldChecks, path: str, lease: pb.LeaseRef) -> LeaseKey:
    """What names a lease."""
    checks.integer(f"{path}.job_id", lease.job_id, low=1, high=2**63 - 1)
    token = checks.uuid(f"{path}.lease_token", lease.lease_token)
    return LeaseKey(lease.job_id, token or UUID(int=0))


def longest_wait(
    checks: FieldChecks, request: pb.LeaseJobsRequest | pb.HeartbeatRequest
) -> timedelta:
    """How long a call may be held."""
    return checks.duration("wait", request.wait, low=timedelta(), high=_LONGEST_WAIT)


def listed_leases(checks: FieldChecks, request: pb.HeartbeatRequest) -> list[LeaseKey]:
    """The leases a worker works on."""
    if len(request.leases) > _MAX_LISTED:
        checks.wrong("leases", f"must have at most {_MAX_LISTED} entries")
    return [
        lease_key(checks, f"leases[{index}]", lease)
        for index, lease in enumerate(request.leases[:_MAX_LISTED])
    ]


def worker_offer(checks: FieldChecks, offer: pb.WorkerOffer) -> Offered:
    """What a worker is and offers."""
    checks.text("offer.version", offer.version, longest=limits.MAX_WORD)
    for kind in ("backend_labels", "job_types"):
        if len(getattr(offer, kind)) > limits.MAX_CHOICES:
            checks.wrong(f"offer.{kind}", f"must have at most {limits.MAX_CHOICES} entries")
    for index, label in enumerate(offer.backend_labels[: limits.MAX_CHOICES]):
        checks.text(f"offer.backend_labels[{index}]", label, shortest=1, longest=limits.MAX_WORD)
    job_types = [
        # A type that only a newer service knows is not offered to this one.
        TYPE_FROM_WIRE[job_type]
        for job_type in offer.job_types
        if job_type in TYPE_FROM_WIRE
    ]
    if len(offer.backends) > _MAX_BACKENDS:
        checks.wrong("offer.backends", f"must have at most {_MAX_BACKENDS} entries")
    backends = []
    for index, backend in enumerate(offer.backends[:_MAX_BACKENDS]):
        path = f"offer.backends[{index}]"
        _word(checks, f"{path}.name", backend.name)
        checks.integer(f"{path}.slots", backend.slots, low=0, high=1024)
        checks.integer(f"{path}.free_slots", backend.free_slots, low=0, high=1024)
        checks.text(f"{path}.catalogue_digest", backend.catalogue_digest, longest=64)
        checks.text(f"{path}.loaded_checkpoint", backend.loaded_checkpoint, longest=limits.MAX_NAME)
        backends.append(
            WaitingBackend(
                backend.name,
                backend.catalogue_digest,
                backend.slots,
                backend.free_slots,
                backend.loaded_checkpoint,
            )
        )
    return Offered(
        job_types=job_types or ["image"],
        backend_labels=list(offer.backend_labels) or [limits.DEFAULT_BACKEND],
        backends=backends,
    )


def reported_leases(checks: FieldChecks, request: pb.ReportProgressRequest) -> list[LeaseKey]:
    """The leases that progress is reported on, in the order of the reports."""
    if len(request.reports) > _MAX_LISTED:
        checks.wrong("reports", f"must have at most {_MAX_LISTED} entries")
    return [
        _report(checks, f"reports[{index}]", report)
        for index, report in enumerate(request.reports[:_MAX_LISTED])
    ]


def _report(checks: FieldChecks, path: str, report: pb.ProgressReport) -> LeaseKey:
    checks.number(f"{path}.fraction", report.fraction, low=0, high=1)
    checks.text(f"{path}.node_id", report.node_id, longest=limits.MAX_NAME)
    checks.text(f"{path}.node_class", report.node_class, longest=limits.MAX_NAME)
    checks.text(f"{path}.prompt_id", report.prompt_id, longest=limits.MAX_NAME)
    running_for(checks, f"{path}.running_for", report)
    if report.HasField("remaining"):
        checks.duration(
            f"{path}.remaining", report.remaining, low=timedelta(), high=_LONGEST_REMAINING
        )
    if len(report.preview.data) > limits.MAX_PREVIEW_BYTES:
        checks.wrong(f"{path}.preview.data", f"has more than {limits.MAX_PREVIEW_BYTES:,} bytes")
    return lease_key(checks, f"{path}.lease", report.lease)


def running_for(
    checks: FieldChecks, path: str, message: pb.ProgressReport | pb.CompleteJobRequest
) -> timedelta | None:
    """How long ago the prompt started to be executed; None: unknown."""
    if not message.HasField("running_for"):
        return None
    return checks.duration(path, message.running_for, low=timedelta(), high=_LONGEST_RUN)


def completion(
    checks: FieldChecks, request: pb.CompleteJobRequest, caller: Principal, path: str = ""
) -> Completion:
    """How an attempt has succeeded; ``path`` ends with a dot, or is empty.

    Raises RefusedError: WRONG_WORKER.
    """
    worker_identity(checks, request.worker, caller, f"{path}worker")
    return Completion(
        lease_key(checks, f"{path}lease", request.lease),
        request.artifact_ids,
        running_for(checks, f"{path}running_for", request),
        checks.text(f"{path}prompt_id", request.prompt_id, longest=limits.MAX_NAME),
    )


def new_artifact(
    checks: FieldChecks, path: str, header: pb.ArtifactHeader, max_bytes: int
) -> tuple[LeaseKey, NewArtifact]:
    """The lease and the description of an uploaded file."""
    role = checks.enum(f"{path}.role", header.role, ROLE_FROM_WIRE) or ""
    if len(header.sha256) != 32:
        checks.wrong(f"{path}.sha256", f"must have 32 bytes, has {len(header.sha256)}")
    if (role == "thumbnail") != (header.thumbnail_size > 0):
        checks.wrong(f"{path}.thumbnail_size", "is for thumbnails, and thumbnails have one")
    artifact = NewArtifact(
        role=role,
        position=checks.integer(f"{path}.position", header.position, low=0, high=9_999),
        thumbnail_size=checks.integer(
            f"{path}.thumbnail_size", header.thumbnail_size, low=0, high=4096
        ),
        filename=checks.filename(f"{path}.filename", header.filename),
        content_type=_content_type(checks, f"{path}.content_type", header.content_type),
        size=checks.integer(f"{path}.size", header.size, low=0, high=max_bytes),
        sha256=header.sha256,
        width=checks.integer(f"{path}.width", header.width, low=0, high=2**31 - 1),
        height=checks.integer(f"{path}.height", header.height, low=0, high=2**31 - 1),
        node_id=checks.text(f"{path}.node_id", header.node_id, longest=limits.MAX_NAME),
        duration_ms=_duration_ms(checks, f"{path}.duration", header),
    )
    return lease_key(checks, f"{path}.lease", header.lease), artifact


def _content_type(checks: FieldChecks, path: str, value: str) -> str:
    """What may stand in an HTTP header: buckets answer with it."""
    checks.text(path, value, shortest=1, longest=127)
    if not all(" " <= character <= "~" for character in value):
        checks.wrong(path, "must have printable ASCII characters only, as image/png has")
    return value


def new_artifacts(
    checks: FieldChecks, request: pb.UploadArtifactsRequest, max_bytes: int
) -> tuple[LeaseKey, list[NewArtifact]]:
    """The lease, and the descriptions of the files that are uploaded together."""
    most = limits.MAX_UPLOADED_TOGETHER
    if not 1 <= len(request.files) <= most:
        checks.wrong("files", f"must have 1 to {most} entries, has {len(request.files)}")
    size = sum(len(file.content) for file in request.files)
    if size > limits.MAX_UPLOADED_TOGETHER_BYTES:
        checks.wrong(
            "files",
            f"must have at most {limits.MAX_UPLOADED_TOGETHER_BYTES:,} bytes of content in all,"
            f" have {size:,}; use UploadArtifact for large files",
        )
    lease = LeaseKey(0, UUID(int=0))
    artifacts: list[NewArtifact] = []
    places: dict[tuple[str, int, int], int] = {}
    for index, file in enumerate(request.files[:most]):
        path = f"files[{index}].header"
        own_lease, artifact = new_artifact(checks, path, file.header, max_bytes)
        if index == 0:
            lease = own_lease
        elif own_lease != lease:
            checks.wrong(f"{path}.lease", "must be the lease of the other files")
        first = places.setdefault(
            (artifact.role, artifact.position, artifact.thumbnail_size), index
        )
        if first != index:
            checks.wrong(f"{path}.position", f"names the same file as files[{first}]")
        artifacts.append(artifact)
    return lease, artifacts


def _duration_ms(checks: FieldChecks, path: str, header: pb.ArtifactHeader) -> int | None:
    if not header.HasField("duration"):
        return None
    span = checks.duration(path, header.duration, low=timedelta(), high=_LONGEST_DURATION)
    return round(span / timedelta(milliseconds=1))


def retry_after(checks: FieldChecks, request: pb.FailJobRequest) -> timedelta | None:
    """The pause a worker asks for; None: as the error's code says."""
    if not request.HasField("retry_after"):
        return None
    return checks.duration("retry_after", request.retry_after, low=timedelta(), high=_LONGEST_RETRY)


def check_job_error(checks: FieldChecks, request: pb.FailJobRequest) -> None:
    """Why a worker could not do a job."""
    error = request.error
    if not request.HasField("error"):
        checks.wrong("error", "is required")
    checks.text("error.message", error.message, longest=2_000)
    checks.text("error.technical_details", error.technical_details, longest=4_096)
    checks.text("error.exception_type", error.exception_type, longest=limits.MAX_NAME)
    checks.text("error.node_id", error.node_id, longest=limits.MAX_NAME)
    checks.text("error.node_type", error.node_type, longest=limits.MAX_NAME)
    if len(error.node_input_errors) > 100:
        checks.wrong("error.node_input_errors", "must have at most 100 entries")
    for index, one in enumerate(error.node_input_errors[:100]):
        path = f"error.node_input_errors[{index}]"
        checks.text(f"{path}.node_id", one.node_id, longest=limits.MAX_NAME)
        checks.text(f"{path}.node_type", one.node_type, longest=limits.MAX_NAME)
        checks.text(f"{path}.input_name", one.input_name, longest=limits.MAX_NAME)
        checks.text(f"{path}.error_type", one.error_type, longest=limits.MAX_NAME)
        checks.text(f"{path}.message", one.message, longest=2_000)
        if len(one.suggestions) > 5:
            checks.wrong(f"{path}.suggestions", "must have at most 5 entries")
        for place, suggestion in enumerate(one.suggestions[:5]):
            checks.text(f"{path}.suggestions[{place}]", suggestion, longest=limits.MAX_NAME)


def catalogues(checks: FieldChecks, request: pb.ReportCatalogueRequest) -> list[Catalogue]:
    """What a worker's ComfyUIs offer."""
    if not 1 <= len(request.catalogues) <= _MAX_BACKENDS:
        checks.wrong("catalogues", f"must have 1 to {_MAX_BACKENDS} entries")
    return [
        _catalogue(checks, f"catalogues[{index}]", catalogue)
        for index, catalogue in enumerate(request.catalogues[:_MAX_BACKENDS])
    ]


def packed_signatures(request: pb.ReportCatalogueRequest) -> list[PackedSignatures | None]:
    """For each catalogue what its node classes take and give; some milliseconds a megabyte."""
    return [PackedSignatures.of(catalogue) for catalogue in request.catalogues]


def _catalogue(checks: FieldChecks, path: str, catalogue: pb.BackendCatalogue) -> Catalogue:
    _word(checks, f"{path}.backend", catalogue.backend)
    checks.text(f"{path}.digest", catalogue.digest, shortest=1, longest=64)
    checks.text(f"{path}.comfyui_version", catalogue.comfyui_version, longest=limits.MAX_NAME)
    checks.text(f"{path}.device", catalogue.device, longest=limits.MAX_NAME)
    for kind in ("checkpoints", "loras", "vaes", "samplers", "schedulers", "node_classes"):
        for index, name in enumerate(getattr(catalogue, kind)):
            if "\0" in name:
                checks.wrong(f"{path}.{kind}[{index}]", "must not contain the character NUL")
    check_signatures(checks, path, catalogue)
    described = pb.BackendCatalogue()
    described.CopyFrom(catalogue)
    described.ClearField("node_signatures")
    described.ClearField("choice_lists")
    content: dict[str, Any] = json_format.MessageToDict(described, preserving_proto_field_name=True)
    return Catalogue(catalogue.backend, catalogue.digest, content)
