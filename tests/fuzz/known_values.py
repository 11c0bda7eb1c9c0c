"""What a caller may know of a running service: requests it takes, ids and tokens it has given."""

import asyncio
from dataclasses import dataclass, field, fields
from random import Random
from typing import Any, Final

import grpc
from generation_jobs.v1 import job_error_pb2, worker_service_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from tests.every_method import METHODS
from tests.inputs_protocol import InputClient, picture
from tests.jobs_protocol import ProtocolClient
from tests.operator_protocol import ProtocolOperator
from tests.valid_requests import CONTENT, ValidRequests
from tests.worker_protocol import CHECKPOINT, ref


@dataclass(slots=True)
class KnownValues:
    """Values by what they are; the same picks of them are made in every run of a seed."""

    requests: dict[str, list[Message]] = field(default_factory=dict)
    job_ids: list[int] = field(default_factory=list)
    artifact_ids: list[int] = field(default_factory=list)
    input_ids: list[int] = field(default_factory=list)
    leases: list[worker_service_pb2.LeaseRef] = field(default_factory=list)
    workers: list[worker_service_pb2.WorkerIdentity] = field(default_factory=list)
    etags: list[str] = field(default_factory=list)
    page_tokens: list[str] = field(default_factory=list)
    resume_tokens: list[str] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)

    def valid(self, method: MethodDescriptor) -> list[Message]:
        """The messages of a call that the service would take, to be changed."""
        copies = []
        for message in self.requests[method.name]:
            copy = type(message)()
            copy.CopyFrom(message)
            copies.append(copy)
        return copies

    def text(self, random: Random, name: str) -> str | None:
        """A value for a text field of this name; None: nothing is known of such fields."""
        kind = _TEXTS.get(name)
        return None if kind is None else random.choice(getattr(self, kind))

    def number(self, random: Random, name: str) -> int | None:
        """A value for a whole number of this name; None: nothing is known of such fields."""
        kind = _NUMBERS.get(name)
        return None if kind is None else random.choice(getattr(self, kind))

    def message(self, random: Random, type_name: str) -> Any:
        """A whole message of this type; None: none is known."""
        kind = _MESSAGES.get(type_name)
        return None if kind is None else random.choice(getattr(self, kind))


_TEXTS: Final = {
    "etag": "etags",
    "page_token": "page_tokens",
    "resume_token": "resume_tokens",
    "request_id": "request_ids",
    "name": "names",
    "catalogue_digest": "digests",
    "digest": "digests",
}
_NUMBERS: Final = {
    "id": "job_ids",
    "ids": "job_ids",
    "job_id": "job_ids",
    "artifact_id": "artifact_ids",
    "artifact_ids": "artifact_ids",
    "input_id": "input_ids",
}
_MESSAGES: Final = {"LeaseRef": "leases", "WorkerIdentity": "workers"}


async def learn(channel: grpc.aio.Channel, number: int) -> KnownValues:
    """Bring the service into a state worth attacking, and know everything of it."""
    client, inputs = ProtocolClient(channel), InputClient(channel)
    await _forget_the_last_round(ProtocolOperator(channel))
    requests = await ValidRequests(channel, f"box-{number}").ready()
    worker = requests.worker
    known = KnownValues(
        requests={method.name: await requests.of(method.name) for method in METHODS},
        workers=[worker.identity],
        digests=[catalogue.digest for catalogue in worker.catalogues],
        request_ids=["again", f"round-{number}"],
        names=["text-to-image", worker.identity.name, "where", "picture"],
    )
    done = await requests.completed()
    failed, *running = [await requests.lease() for _ in range(4)]
    await worker.upload(running[0], CONTENT)
    await worker.fail(failed, job_error_pb2.ERROR_CODE_MODEL_NOT_FOUND)
    known.leases += map(ref, (failed, *running))
    known.artifact_ids.append(done.id)
    known.input_ids.append((await inputs.upload(picture(colour=f"#{number % 256:02x}0000"))).id)
    known.job_ids += [done.job_id, failed.job_id, *(lease.job_id for lease in running)]
    for n in range(3):
        job = await client.create(request_id=f"round-{number}" if n == 0 else "")
        known.job_ids.append(job.id)
        known.etags.append(job.etag)
    known.page_tokens.append((await client.list_jobs(page_size=1)).next_page_token)
    async with client.watching_jobs(changes_only=True) as watch:
        known.resume_tokens.append(watch.token)
    for kind in fields(known):
        assert getattr(known, kind.name), f"nothing is known of {kind.name}"
    return known


async def _forget_the_last_round(operator: ProtocolOperator) -> None:
    """Wait until what its workers offered nobody offers, and pause nothing."""
    for _ in range(600):
        if not await operator.workers():
            break
        await asyncio.sleep(0.1)
    await operator.unpause(backend_label="comfyui")
    await operator.unpause(checkpoint_model=CHECKPOINT)
