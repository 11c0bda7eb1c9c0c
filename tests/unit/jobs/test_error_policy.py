"""Every error code says whom it concerns, how bad it is, whether to retry, and what to do."""

import re

import pytest
from generation_jobs.v1 import job_error_pb2 as pb
from hypothesis import given
from hypothesis import strategies as st

from job_service.jobs.error_policy import POLICIES, complete, policy

CONNECTION = pb.ERROR_CATEGORY_CONNECTION
VALIDATION = pb.ERROR_CATEGORY_VALIDATION
PERMISSION = pb.ERROR_CATEGORY_PERMISSION
RESOURCE = pb.ERROR_CATEGORY_RESOURCE
SYSTEM = pb.ERROR_CATEGORY_SYSTEM
GENERATION = pb.ERROR_CATEGORY_GENERATION
LOW = pb.ERROR_SEVERITY_LOW
MEDIUM = pb.ERROR_SEVERITY_MEDIUM
HIGH = pb.ERROR_SEVERITY_HIGH
CRITICAL = pb.ERROR_SEVERITY_CRITICAL

#: Code, category, severity, whether another attempt may help, whether attempts are forgiven.
TAXONOMY = {
    pb.ERROR_CODE_INTERNAL: (SYSTEM, HIGH, True, False),
    pb.ERROR_CODE_COMFYUI_UNREACHABLE: (CONNECTION, HIGH, True, True),
    pb.ERROR_CODE_COMFYUI_RESTARTED: (CONNECTION, MEDIUM, True, True),
    pb.ERROR_CODE_PROMPT_LOST: (CONNECTION, MEDIUM, True, True),
    pb.ERROR_CODE_INVALID_WORKFLOW: (VALIDATION, LOW, False, False),
    pb.ERROR_CODE_MODEL_NOT_FOUND: (VALIDATION, LOW, False, False),
    pb.ERROR_CODE_NODE_NOT_FOUND: (VALIDATION, LOW, False, False),
    pb.ERROR_CODE_NODE_FAILED: (GENERATION, MEDIUM, False, False),
    pb.ERROR_CODE_OUT_OF_MEMORY: (RESOURCE, MEDIUM, False, False),
    pb.ERROR_CODE_DEVICE_FAULT: (RESOURCE, CRITICAL, True, False),
    pb.ERROR_CODE_TIMED_OUT: (RESOURCE, MEDIUM, True, False),
    pb.ERROR_CODE_EXPIRED: (RESOURCE, LOW, False, False),
    pb.ERROR_CODE_WORKER_LOST: (SYSTEM, HIGH, True, False),
    pb.ERROR_CODE_OUTPUT_MISSING: (GENERATION, MEDIUM, True, False),
    pb.ERROR_CODE_STORAGE_FAILED: (RESOURCE, CRITICAL, True, False),
    pb.ERROR_CODE_INTERRUPTED: (GENERATION, LOW, True, False),
    pb.ERROR_CODE_WORKFLOW_FORBIDDEN: (PERMISSION, MEDIUM, False, False),
    pb.ERROR_CODE_FAILED_BY_OPERATOR: (SYSTEM, LOW, False, False),
    pb.ERROR_CODE_LEGACY: (SYSTEM, MEDIUM, False, False),
}
#: Nobody can do anything about these but ask.
WITHOUT_SUGGESTIONS = {pb.ERROR_CODE_FAILED_BY_OPERATOR, pb.ERROR_CODE_LEGACY}
#: A sentence, as a user likes to read it.
SENTENCE = re.compile(r"[A-Z][^\n/\\<>{}_]{5,80}\.")


def test_every_code_has_a_policy() -> None:
    assert set(POLICIES) == set(pb.ErrorCode.values()) - {pb.ERROR_CODE_UNSPECIFIED}
    assert set(TAXONOMY) <= set(POLICIES)


@pytest.mark.parametrize("code", POLICIES, ids=pb.ErrorCode.Name)
def test_an_error_of_each_code_is_filled_in(code: "pb.ErrorCode.ValueType") -> None:
    error = complete(pb.JobError(code=code))
    assert error.code == code
    if code in TAXONOMY:
        said = (error.category, error.severity, error.retryable, policy(code).forgivable)
        assert said == TAXONOMY[code]
    assert error.category
    assert error.severity
    assert SENTENCE.fullmatch(error.message)
    assert bool(error.recovery_suggestions) == (code not in WITHOUT_SUGGESTIONS)
    assert all(SENTENCE.fullmatch(one) for one in error.recovery_suggestions)
    assert not error.technical_details
    assert policy(code).charge or error.retryable, "what is not charged would go on for ever"


def test_what_only_the_service_says_is_not_taken_from_a_worker() -> None:
    said = pb.JobError(
        code=pb.ERROR_CODE_NODE_FAILED,
        category=PERMISSION,
        severity=CRITICAL,
        retryable=True,
        recovery_suggestions=["Give up."],
        attempts_exhausted=True,
        node_id="7",
        node_type="KSampler",
        exception_type="ValueError",
    )
    said.retry_delay.seconds = 9
    error = complete(said)
    assert (error.category, error.severity) == (GENERATION, MEDIUM)
    assert not error.retryable
    assert not error.attempts_exhausted
    assert not error.HasField("retry_delay")
    assert "Give up." not in error.recovery_suggestions
    assert (error.node_id, error.node_type, error.exception_type) == ("7", "KSampler", "ValueError")


PATHS = [
    "/home/comfy/ComfyUI/nodes.py",
    "/mnt/models/checkpoints/a.safetensors",
    "~/ComfyUI/models/x",
    r"C:\ComfyUI\models\loras\b.safetensors",
    r"\\nas\models\c.safetensors",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("text", ["cannot open {}", "'{}' is missing", "{}: no such file", "({})"])
@pytest.mark.parametrize("code", [pb.ERROR_CODE_NODE_FAILED, pb.ERROR_CODE_INVALID_WORKFLOW])
def test_users_read_no_paths(code: "pb.ErrorCode.ValueType", text: str, path: str) -> None:
    said = text.format(path)
    error = complete(
        pb.JobError(code=code, message=said, node_input_errors=[pb.NodeInputError(message=said)])
    )
    for public in (error.message, error.node_input_errors[0].message):
        assert public == text.format("<path>")
    assert error.technical_details == said


def test_users_read_no_tracebacks() -> None:
    said = 'Traceback (most recent call last):\n  File "/a/nodes.py", line 3, in f\nValueError: x'
    error = complete(pb.JobError(code=pb.ERROR_CODE_NODE_FAILED, message=said))
    assert error.message == "The generation failed."
    assert error.technical_details == said
    kept = complete(
        pb.JobError(code=pb.ERROR_CODE_NODE_FAILED, message=said, technical_details="more")
    )
    assert kept.technical_details == "more"
    lines = complete(pb.JobError(code=pb.ERROR_CODE_NODE_FAILED, message="It broke.\nat line 3"))
    assert lines.message == "It broke."


@pytest.mark.parametrize(
    "said",
    ["sdxl/base.safetensors is not one of the server's choices", "1/2 of and/or 16:9 is 3/4", "Ö?"],
)
def test_other_messages_stay_as_they_are(said: str) -> None:
    error = complete(pb.JobError(code=pb.ERROR_CODE_MODEL_NOT_FOUND, message=said))
    assert (error.message, error.technical_details) == (said, "")


@given(st.text(max_size=300))
def test_any_message_becomes_one_line(said: str) -> None:
    error = complete(
        pb.JobError(code=pb.ERROR_CODE_NODE_FAILED, message=said.encode(errors="replace").decode())
    )
    assert error.message
    assert "\n" not in error.message
    assert complete(error).message == error.message
