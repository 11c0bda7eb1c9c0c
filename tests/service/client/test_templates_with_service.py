"""Templates with genjobs, and the real service."""

import json
from pathlib import Path

from job_service.client import JobServiceClient
from job_service.workflows.builtin_templates import builtin_templates
from tests.inputs_protocol import picture
from tests.unit.client.command import genjobs


async def test_templates_are_listed_and_shown(service: str, tmp_path: Path) -> None:
    listed = await genjobs(service, "templates", "--json", cwd=tmp_path)
    assert [json.loads(line)["name"] for line in listed.stdout.splitlines()] == list(
        builtin_templates()
    )
    shown = await genjobs(service, "templates", "upscale", cwd=tmp_path)
    assert (shown.code, shown.stderr) == (0, "")
    assert shown.stdout.startswith("upscale, version 1: ")
    assert "scale" in shown.stdout
    whole = await genjobs(service, "templates", "upscale@1", "--json", cwd=tmp_path)
    assert "LoadImage" in json.loads(whole.stdout)["workflow_json"]
    missing = await genjobs(service, "templates", "nothing", cwd=tmp_path)
    assert (missing.code, missing.stdout) == (4, "")
    assert "'genjobs templates' lists what there is" in missing.stderr


async def test_a_job_of_a_template_is_submitted(
    service: str, jobs: JobServiceClient, tmp_path: Path
) -> None:
    (tmp_path / "sketch.png").write_bytes(picture())
    submit = ("submit", "-p", "a lighthouse", "--template", "upscale")
    inputs = ("--input", "image=sketch.png")
    outcome = await genjobs(
        service, *submit, *inputs, "--arg", "scale=1.50", "--json", cwd=tmp_path
    )
    assert (outcome.code, outcome.stderr.count("Traceback")) == (0, 0)
    job = await jobs.get_job(int(json.loads(outcome.stdout)["id"]))
    assert (job.template.name, job.template.version) == ("upscale", 1)
    assert json.loads(job.template.arguments_json)["scale"] == 1.5

    refused = await genjobs(service, *submit, "--arg", "scala=2", cwd=tmp_path)
    assert refused.code == 4
    assert 'did you mean "scale"' in refused.stderr
    assert "the template needs the input" in refused.stderr
