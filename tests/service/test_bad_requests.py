"""Bad requests get the right status, a reason, and the path of every wrong field."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2
from google.protobuf import duration_pb2, timestamp_pb2

from tests.jobs_protocol import PENDING, ProtocolClient, Refused, a_job, refused

SERVICE = "/generation_jobs.v1.GenerationJobService/"
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def _job(**fields: Any) -> pb.CreateJobRequest:
    return pb.CreateJobRequest(job=a_job(**fields))


def _sampler(**fields: Any) -> pb.CreateJobRequest:
    return _job(sampler=job_pb2.Sampler(**fields))


def _lora(**fields: Any) -> pb.CreateJobRequest:
    return _job(lora_models=[job_pb2.Lora(name="fine"), job_pb2.Lora(**{"name": "l", **fields})])


def _params(text: str) -> pb.CreateJobRequest:
    return _job(params_json=text)


NAN, INFINITY = float("nan"), float("inf")
#: An enum value of some newer contract.
UNKNOWN: Any = 99
UNSPECIFIED = job_pb2.JOB_STATUS_UNSPECIFIED

BAD_JOBS: Sequence[tuple[str, pb.CreateJobRequest, Sequence[str]]] = [
    ("no job", pb.CreateJobRequest(), ["job.prompt", "job.checkpoint_model"]),
    ("empty prompt", _job(prompt=""), ["job.prompt"]),
    ("blank prompt", _job(prompt=" \t\n\r\v\f\u00a0\u2003"), ["job.prompt"]),
    ("long prompt", _job(prompt="x" * 20_001), ["job.prompt"]),
    ("long negative prompt", _job(negative_prompt="x" * 20_001), ["job.negative_prompt"]),
    ("no checkpoint", _job(checkpoint_model=""), ["job.checkpoint_model"]),
    ("long checkpoint", _job(checkpoint_model="c" * 256), ["job.checkpoint_model"]),
    ("width 63", _job(width=63), ["job.width"]),
    ("width 65", _job(width=65), ["job.width"]),
    ("width 0", _job(width=0), ["job.width"]),
    ("width -64", _job(width=-64), ["job.width"]),
    ("width 2056", _job(width=2056), ["job.width"]),
    ("height 4", _job(height=4), ["job.height"]),
    ("batch 0", _job(batch_size=0), ["job.batch_size"]),
    ("batch 9", _job(batch_size=9), ["job.batch_size"]),
    ("seed -2", _sampler(seed=-2), ["job.sampler.seed"]),
    ("steps 0", _sampler(steps=0), ["job.sampler.steps"]),
    ("steps 151", _sampler(steps=151), ["job.sampler.steps"]),
    ("cfg NaN", _sampler(cfg=NAN), ["job.sampler.cfg"]),
    ("cfg infinite", _sampler(cfg=INFINITY), ["job.sampler.cfg"]),
    ("cfg 30.1", _sampler(cfg=30.1), ["job.sampler.cfg"]),
    ("denoise 1.1", _sampler(denoise=1.1), ["job.sampler.denoise"]),
    ("denoise NaN", _sampler(denoise=NAN), ["job.sampler.denoise"]),
    ("long sampler", _sampler(sampler_name="s" * 64), ["job.sampler.sampler_name"]),
    ("long scheduler", _sampler(scheduler="s" * 64), ["job.sampler.scheduler"]),
    ("LoRA strength 11", _lora(strength_model=11), ["job.lora_models[1].strength_model",
                                                    "job.lora_models[1].strength_clip"]),
    ("LoRA clip -11", _lora(strength_clip=-11), ["job.lora_models[1].strength_clip"]),
    ("LoRA NaN", _lora(strength_clip=NAN), ["job.lora_models[1].strength_clip"]),
    ("nameless LoRA", _lora(name=""), ["job.lora_models[1].name"]),
    ("17 LoRAs", _job(lora_models=[job_pb2.Lora(name="l")] * 17), ["job.lora_models"]),
    ("65 labels", _job(labels={str(n): "" for n in range(65)}), ["job.labels"]),
    ("empty label", _job(labels={"": "x"}), ["job.labels['']"]),
    ("long label key", _job(labels={"k" * 64: ""}), [f"job.labels['{'k' * 63}']"]),
    ("long label value", _job(labels={"k": "v" * 256}), ["job.labels['k']"]),
    ("unknown type", _job(job_type=99), ["job.job_type"]),
    ("bad user", _job(user_id="anna"), ["job.user_id"]),
    ("priority 101", _job(priority=101), ["job.priority"]),
    ("priority -101", _job(priority=-101), ["job.priority"]),
    ("max_attempts 0", _job(max_attempts=0), ["job.max_attempts"]),
    ("max_attempts 21", _job(max_attempts=21), ["job.max_attempts"]),
    ("short timeout", _job(attempt_timeout=duration_pb2.Duration(seconds=9)),
     ["job.attempt_timeout"]),
    ("long timeout", _job(attempt_timeout=duration_pb2.Duration(seconds=86_401)),
     ["job.attempt_timeout"]),
    ("impossible duration", _job(attempt_timeout=duration_pb2.Duration(seconds=2**62)),
     ["job.attempt_timeout"]),
    ("crooked duration", _job(attempt_timeout=duration_pb2.Duration(seconds=60, nanos=-5)),
     ["job.attempt_timeout"]),
    ("expires before scheduled",
     _job(scheduled_at=timestamp_pb2.Timestamp(seconds=4_000_000_000),
          expires_at=timestamp_pb2.Timestamp(seconds=3_999_999_999)), ["job.expires_at"]),
    ("year 10000", _job(scheduled_at=timestamp_pb2.Timestamp(seconds=253_402_300_800)),
     ["job.scheduled_at"]),
    ("impossible time", _job(expires_at=timestamp_pb2.Timestamp(seconds=2**62, nanos=-1)),
     ["job.expires_at"]),
    ("long backend", _job(backend="b" * 64), ["job.backend"]),
    ("long request_id", pb.CreateJobRequest(job=a_job(), request_id="r" * 129), ["request_id"]),
    ("workflow", _job(workflow_json="{}"), ["job.workflow_json"]),
    ("template", _job(template=job_pb2.TemplateRef(name="t")), ["job.template.name"]),
    ("inputs", _job(inputs=[job_pb2.InputBinding(name="image", input_id=1)]), ["job.inputs"]),
    ("params no JSON", _params("{"), ["job.params_json"]),
    ("params blank", _params("  "), ["job.params_json"]),
    ("params no object", _params("[1]"), ["job.params_json"]),
    ("params 1e999", _params('{"a": 1e999}'), ["job.params_json"]),
    ("params NaN", _params('{"a": NaN}'), ["job.params_json"]),
    ("params -Infinity", _params('{"a": -Infinity}'), ["job.params_json"]),
    ("params 5,000 digits", _params('{"a": ' + "9" * 5_000 + "}"), ["job.params_json"]),
    ("params NUL", _params('{"a": "x\\u0000"}'), ["job.params_json"]),
    ("params NUL key", _params('{"x\\u0000": 1}'), ["job.params_json"]),
    ("params half pair", _params('{"a": ["\\ud83d"]}'), ["job.params_json"]),
    ("params half pair key", _params('{"\\udc00": 1}'), ["job.params_json"]),
    ("params deep", _params('{"a": ' + "[" * 10_000 + "]" * 10_000 + "}"), ["job.params_json"]),
    ("params 65 deep", _params('{"a": ' + "[" * 65 + "]" * 65 + "}"), ["job.params_json"]),
    ("params too big", _params(json.dumps({"a": "x" * 256 * 1024})), ["job.params_json"]),
    ("params sampler_params", _params('{"sampler_params": {"steps": 1}}'), ["job.params_json"]),
    ("params sampler_params twice", _params('{"sampler_params": 1, "sampler_params": 2}'),
     ["job.params_json"]),
    ("many at once", _job(prompt="", width=1, height=2, batch_size=99, backend="b" * 64),
     ["job.prompt", "job.width", "job.height", "job.batch_size", "job.backend"]),
]  # fmt: skip

TEXTS_OF_A_JOB: Sequence[tuple[str, Callable[[str], pb.CreateJobRequest]]] = [
    ("job.prompt", lambda text: _job(prompt=text)),
    ("job.negative_prompt", lambda text: _job(negative_prompt=text)),
    ("job.checkpoint_model", lambda text: _job(checkpoint_model=text)),
    ("job.lora_models[1].name", lambda text: _lora(name=text)),
    ("job.sampler.sampler_name", lambda text: _sampler(sampler_name=text)),
    ("job.sampler.scheduler", lambda text: _sampler(scheduler=text)),
    ("job.labels['k']", lambda text: _job(labels={"k": text})),
    ("job.labels['a\\x00b']", lambda text: _job(labels={text: "v"})),
    ("job.backend", lambda text: _job(backend=text)),
    ("request_id", lambda text: pb.CreateJobRequest(job=a_job(), request_id=text)),
    ("job.user_id", lambda text: _job(user_id=text)),
    ("job.params_json", _params),
]

BAD_CALLS: Sequence[tuple[str, str, Any, Sequence[str]]] = [
    ("get 0", "GetJob", pb.GetJobRequest(id=0), ["id"]),
    ("get -1", "GetJob", pb.GetJobRequest(id=-1), ["id"]),
    ("get in an unknown view", "GetJob", pb.GetJobRequest(id=1, view=UNKNOWN), ["view"]),
    ("cancel 0", "CancelJob", pb.CancelJobRequest(id=0), ["id"]),
    ("cancel for a long reason", "CancelJob", pb.CancelJobRequest(id=1, reason="r" * 501),
     ["reason"]),
    ("cancel for NUL", "CancelJob", pb.CancelJobRequest(id=1, reason="\0"), ["reason"]),
    ("delete 0", "DeleteJob", pb.DeleteJobRequest(id=0), ["id"]),
    ("list -1", "ListJobs", pb.ListJobsRequest(page_size=-1), ["page_size"]),
    ("list 1,001", "ListJobs", pb.ListJobsRequest(page_size=1_001), ["page_size"]),
    ("list of nobody", "ListJobs",
     pb.ListJobsRequest(filter=job_pb2.JobFilter(user_id="nobody")), ["filter.user_id"]),
    ("list of unknown states", "ListJobs",
     pb.ListJobsRequest(filter=job_pb2.JobFilter(statuses=[PENDING, UNKNOWN, UNSPECIFIED])),
     ["filter.statuses[1]", "filter.statuses[2]"]),
    ("list by a search and a checkpoint with NUL", "ListJobs",
     pb.ListJobsRequest(filter=job_pb2.JobFilter(search="\0", checkpoint_model="\0")),
     ["filter.search", "filter.checkpoint_model"]),
    ("list of too many ids", "ListJobs",
     pb.ListJobsRequest(filter=job_pb2.JobFilter(ids=range(1001))), ["filter.ids"]),
    ("list in an unknown order", "ListJobs", pb.ListJobsRequest(order_by=UNKNOWN), ["order_by"]),
    ("list with a garbage token", "ListJobs", pb.ListJobsRequest(page_token="garbage"),
     ["page_token"]),
    ("list with a wild token", "ListJobs", pb.ListJobsRequest(page_token="🗼\0=/+"),
     ["page_token"]),
    ("list with a long token", "ListJobs", pb.ListJobsRequest(page_token="A" * 100_000),
     ["page_token"]),
]  # fmt: skip

MALFORMED: Sequence[tuple[str, bytes]] = [
    ("truncated tag", b"\xff"),
    ("length beyond the end", b"\x0a\x7f"),
    ("invalid UTF-8 in the prompt", b"\x0a\x03\x2a\x01\xff"),
    ("half a surrogate in the request_id", b"\x12\x02\xed\xa0"),
    ("unterminated groups", b"\x0a\x05" + b"\x0b" * 5),
]


def _assert_invalid(error: Refused, fields: Sequence[str]) -> None:
    assert error.status is INVALID
    assert error.reason == "INVALID_FIELDS"
    assert sorted(error.fields) == sorted(fields)
    assert error.message


async def test_a_bad_job_is_refused_with_the_paths_of_its_wrong_fields(
    client: ProtocolClient, subtests: pytest.Subtests
) -> None:
    for name, request, fields in BAD_JOBS:
        with subtests.test(name):
            _assert_invalid(await refused(client.send(request)), fields)


async def test_nul_is_refused_in_every_text(
    client: ProtocolClient, subtests: pytest.Subtests
) -> None:
    for path, make in TEXTS_OF_A_JOB:
        with subtests.test(path):
            _assert_invalid(await refused(client.send(make("a\0b"))), [path])


async def test_a_bad_call_is_refused_with_the_paths_of_its_wrong_fields(
    client: ProtocolClient, subtests: pytest.Subtests
) -> None:
    for name, method, request, fields in BAD_CALLS:
        with subtests.test(name):
            call = getattr(client.stub, method)(request, timeout=20)
            _assert_invalid(await refused(call), fields)


async def test_an_unknown_job_is_not_found(client: ProtocolClient) -> None:
    for job_id in (4711, 2**63 - 1):
        for call in (
            client.get(job_id),
            client.cancel(job_id),
            client.delete(job_id),
            client.delete(job_id, cancel=True),
        ):
            error = await refused(call)
            assert error.status is grpc.StatusCode.NOT_FOUND
            assert error.reason == "JOB_NOT_FOUND"


async def test_a_token_of_another_filter_is_refused(client: ProtocolClient) -> None:
    for _ in range(3):
        await client.create()
    page = await client.list_jobs(page_size=1)
    pending = job_pb2.JobFilter(statuses=[job_pb2.JOB_STATUS_PENDING])

    error = await refused(client.list_jobs(filter=pending, page_token=page.next_page_token))
    _assert_invalid(error, ["page_token"])


async def test_a_message_of_five_megabytes_is_too_large(client: ProtocolClient) -> None:
    error = await refused(client.create(prompt="x" * 5_000_000))

    assert error.status is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.reason == "MESSAGE_TOO_LARGE"
    assert error.fields == ("(message)",)


async def test_bytes_that_are_no_message_are_malformed(
    channel: grpc.aio.Channel, subtests: pytest.Subtests
) -> None:
    call: Any = channel.unary_unary(f"{SERVICE}CreateJob")
    for name, raw in MALFORMED:
        with subtests.test(name):
            error = await refused(call(raw, timeout=20))
            assert error.status is INVALID
            assert error.reason == "MALFORMED_MESSAGE"
            assert error.fields == ("(message)",)


async def test_bytes_that_are_no_message_are_malformed_for_a_stream_too(
    channel: grpc.aio.Channel,
) -> None:
    async def drain(call: Any) -> None:
        async for _ in call:
            pass

    watch: Any = channel.unary_stream(f"{SERVICE}WatchJob")
    error = await refused(drain(watch(b"\xff", timeout=20)))
    assert error.reason == "MALFORMED_MESSAGE"


async def test_details_stay_small_with_hundreds_of_violations(client: ProtocolClient) -> None:
    loras = [job_pb2.Lora(name="n" * 300, strength_model=99, strength_clip=-99)] * 16
    labels = {"🗼" * 60 + str(n): "v" * 300 for n in range(64)}
    error = await refused(client.create(prompt="", lora_models=loras, labels=labels, width=1))

    assert error.status is INVALID
    assert error.details_bytes <= 4096
    assert error.fields[0] == "job.prompt"
    assert error.fields[-1] == ""


async def test_a_list_of_a_million_states_is_refused_at_once(
    client: ProtocolClient,
) -> None:
    error = await refused(
        client.stub.ListJobs(
            pb.ListJobsRequest(filter=job_pb2.JobFilter(statuses=[PENDING] * 1_000_000)), timeout=5
        )
    )
    _assert_invalid(error, ["filter.statuses"])


async def test_a_state_named_many_times_counts_once(client: ProtocolClient) -> None:
    job = await client.create()
    pending = job_pb2.JobFilter(statuses=[job_pb2.JOB_STATUS_PENDING] * 10)
    assert [found.id for found in (await client.list_jobs(filter=pending)).jobs] == [job.id]
