"""Built-in templates through both services to their pictures."""

from pathlib import Path

import pytest

from job_service.client import JobServiceClient
from tests.conformance.targets import Target
from tests.end_to_end.template_jobs import (
    GROWN,
    SIZE,
    a_job,
    a_picture,
    difference,
    results,
    upload_inputs,
)

pytestmark = pytest.mark.conformance

TEMPLATES = ("text-to-image", "image-to-image", "inpaint", "upscale")
"""Those that need no model besides the checkpoint."""


async def test_templates_run_to_their_pictures(
    jobs: JobServiceClient, target: Target, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    inputs = await upload_inputs(jobs, tmp_path)
    ids = {
        name: (await jobs.create_job(a_job(name, inputs, target.checkpoint))).id
        for name in TEMPLATES
    }
    for name, job_id in ids.items():
        with subtests.test(name):
            (picture,) = await results(jobs, job_id, tmp_path)
            assert picture.size == GROWN.get(name, SIZE)
            if name == "upscale":
                assert difference(picture.resize(SIZE), a_picture()) < 10
