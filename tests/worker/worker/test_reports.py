"""Whatever the driver finds can be said in the words of the contract."""

from datetime import timedelta

import pytest
from generation_jobs.v1 import job_error_pb2, job_pb2
from generation_jobs.v1 import worker_service_pb2 as pb
from hypothesis import given
from hypothesis import strategies as st

from comfy_worker.comfyui import (
    Failure,
    FailureCode,
    LossReason,
    Phase,
    PreviewImage,
    Progress,
)
from comfy_worker.worker.reports import (
    failure_error,
    job_error,
    loss_error,
    progress_report,
)

LEASE = pb.LeaseRef(job_id=7, lease_token="0b6a2b8e-6c4a-4f0c-8f0f-000000000000")
ANY_TEXT = st.text(st.characters(codec=None), max_size=400)
SAMPLING = Progress(0.5, Phase.SAMPLING, "sampler", "KSampler", 14, 28)


def report(preview: PreviewImage | None = None, *, storing: bool = False) -> pb.ProgressReport:
    return progress_report(
        LEASE,
        SAMPLING,
        prompt_id="p",
        running_for=timedelta(seconds=1.5),
        remaining=2.5,
        storing=storing,
        preview=preview,
    )


def test_progress_is_told_in_full() -> None:
    told = report()
    assert (told.lease, told.fraction, told.prompt_id) == (LEASE, 0.5, "p")
    assert told.phase == job_pb2.PROGRESS_PHASE_SAMPLING
    assert (told.node_id, told.node_class, told.step, told.steps) == ("sampler", "KSampler", 14, 28)
    assert told.running_for.ToTimedelta() == timedelta(seconds=1.5)
    assert not told.HasField("preview")
    assert report(storing=True).phase == job_pb2.PROGRESS_PHASE_STORING
    assert told.remaining.ToTimedelta() == timedelta(seconds=2.5)


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_has_a_word(phase: Phase) -> None:
    told = progress_report(
        LEASE,
        Progress(0, phase, None, None, 0, 0),
        prompt_id="",
        running_for=None,
        remaining=None,
        storing=False,
        preview=None,
    )
    assert told.phase != job_pb2.PROGRESS_PHASE_UNSPECIFIED
    assert not told.HasField("running_for")
    assert not told.HasField("remaining")


@pytest.mark.parametrize(
    ("media_type", "size", "kept"),
    [
        ("image/jpeg", 256 * 1024, True),
        ("image/png", 1, True),
        ("image/jpeg", 256 * 1024 + 1, False),
        ("image/webp", 1, False),
    ],
)
def test_only_previews_the_contract_takes_are_sent(media_type: str, size: int, kept: bool) -> None:
    told = report(PreviewImage("p", "3", media_type, bytes(size)))
    assert told.HasField("preview") == kept


@pytest.mark.parametrize("code", FailureCode)
def test_every_failure_has_a_code(code: FailureCode) -> None:
    error = failure_error(Failure(code=code, message="m"))
    assert job_error_pb2.ErrorCode.Name(error.code) == f"ERROR_CODE_{code}"


@pytest.mark.parametrize(
    "reason", [reason for reason in LossReason if reason is not LossReason.NOT_SUBMITTED]
)
def test_every_loss_of_a_submitted_prompt_has_a_code(reason: LossReason) -> None:
    assert loss_error(reason, "why").code != job_error_pb2.ERROR_CODE_UNSPECIFIED


@given(ANY_TEXT, ANY_TEXT)
def test_any_text_of_comfyuis_fits_the_contract(name: str, details: str) -> None:
    told = progress_report(
        LEASE,
        Progress(0, Phase.LOADING, name, name, 0, 0),
        prompt_id=name,
        running_for=None,
        remaining=None,
        storing=False,
        preview=None,
    )
    failure = Failure(
        code=FailureCode.NODE_FAILED,
        message="m",
        node_id=name,
        node_class=name,
        exception_type=name,
    )
    error = failure_error(failure)
    bug = job_error(job_error_pb2.ERROR_CODE_INTERNAL, details=details * 100)
    for text in (told.node_id, told.prompt_id, error.node_type, error.exception_type):
        assert len(text) <= 255
        assert "\0" not in text
    assert len(bug.technical_details.encode()) <= 4096
    assert "\0" not in bug.technical_details
