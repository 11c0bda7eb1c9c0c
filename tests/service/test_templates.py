"""Workflow templates: stored in versions that never change, and run with a job's values."""

import json
from typing import Any
from uuid import UUID

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2, workflow_template_pb2
from google.protobuf import field_mask_pb2

from job_service.workflows.builtin_templates import builtin_templates
from tests.jobs_protocol import ProtocolClient, refused
from tests.service_fixture import Sql
from tests.worker_protocol import ProtocolWorker

GRAPH: dict[str, dict[str, Any]] = {
    "canvas": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 9007199254740993},
    },
    "save": {
        "class_type": "SaveImage",
        "inputs": {"images": ["canvas", 0], "filename_prefix": "plain"},
    },
}


def parameter(
    name: str, kind: str, *targets: str, **fields: Any
) -> workflow_template_pb2.TemplateParameter:
    """A parameter whose targets are written "node.input"."""
    return workflow_template_pb2.TemplateParameter(
        name=name,
        type=workflow_template_pb2.ParameterType.Value(f"PARAMETER_TYPE_{kind}"),
        targets=[
            workflow_template_pb2.NodeInputRef(node_id=node, input_name=name)
            for node, _, name in (target.partition(".") for target in targets)
        ],
        **fields,
    )


def a_template(name: str = "plain", **fields: Any) -> workflow_template_pb2.WorkflowTemplate:
    given = {
        "description": "One colour.",
        "workflow_json": json.dumps(GRAPH),
        "parameters": [
            parameter("width", "INTEGER", "canvas.width", minimum=64, maximum=512),
            parameter("shade", "INTEGER", "canvas.color", default_json="255", minimum=0),
        ],
    }
    return workflow_template_pb2.WorkflowTemplate(name=name, **(given | fields))


class Templates:
    """The template calls."""

    def __init__(self, client: ProtocolClient) -> None:
        self._stub = client.stub

    async def create(
        self, template: workflow_template_pb2.WorkflowTemplate
    ) -> workflow_template_pb2.WorkflowTemplate:
        request = pb.CreateTemplateRequest(template=template)
        return (await self._stub.CreateTemplate(request, timeout=20)).template

    async def update(
        self, template: workflow_template_pb2.WorkflowTemplate
    ) -> workflow_template_pb2.WorkflowTemplate:
        request = pb.UpdateTemplateRequest(template=template)
        return (await self._stub.UpdateTemplate(request, timeout=20)).template

    async def get(self, name: str, version: int = 0) -> workflow_template_pb2.WorkflowTemplate:
        request = pb.GetTemplateRequest(name=name, version=version)
        return (await self._stub.GetTemplate(request, timeout=20)).template

    async def names(self, page_size: int) -> list[str]:
        """The names of all pages."""
        names: list[str] = []
        token = ""
        while True:
            page = await self._stub.ListTemplates(
                pb.ListTemplatesRequest(page_size=page_size, page_token=token), timeout=20
            )
            assert len(page.templates) <= page_size
            names += [template.name for template in page.templates]
            token = page.next_page_token
            if not token:
                return names

    async def delete(self, name: str) -> None:
        await self._stub.DeleteTemplate(pb.DeleteTemplateRequest(name=name), timeout=20)


@pytest.fixture
def templates(client: ProtocolClient) -> Templates:
    return Templates(client)


def of_template(name: str, version: int = 0, **arguments: Any) -> dict[str, Any]:
    """Fields of a job that names a template."""
    return {
        "checkpoint_model": "",
        "template": job_pb2.TemplateRef(
            name=name, version=version, arguments_json=json.dumps(arguments)
        ),
    }


async def test_a_template_is_read_back_as_it_was_sent(templates: Templates) -> None:
    sent = a_template()
    stored = await templates.create(sent)
    assert (stored.version, stored.workflow_json) == (1, sent.workflow_json)
    assert list(stored.parameters) == list(sent.parameters)
    assert stored.HasField("created_at")
    assert await templates.get("plain") == stored


async def test_every_update_is_a_version_and_old_ones_stay(templates: Templates) -> None:
    first = await templates.create(a_template())
    second = await templates.update(a_template(description="Another."))
    assert second.version == 2
    assert (await templates.get("plain")).description == "Another."
    assert await templates.get("plain", 1) == first
    refusal = await refused(templates.create(a_template()))
    assert (refusal.status, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "TEMPLATE_EXISTS")


async def test_an_update_of_what_has_changed_is_refused(templates: Templates) -> None:
    first = await templates.create(a_template())
    await templates.update(a_template(etag=first.etag))
    refusal = await refused(templates.update(a_template(etag=first.etag)))
    assert (refusal.status, refusal.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")


async def test_a_deleted_template_is_gone_but_for_the_version_jobs_name(
    templates: Templates,
) -> None:
    await templates.create(a_template())
    await templates.delete("plain")
    refusal = await refused(templates.get("plain"))
    assert (refusal.status, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "TEMPLATE_NOT_FOUND")
    refusal = await refused(templates.delete("plain"))
    assert (refusal.status, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "TEMPLATE_NOT_FOUND")
    assert (await templates.get("plain", 1)).version == 1
    # No number names two versions.
    assert (await templates.create(a_template())).version == 2


async def test_pages_list_stored_and_built_in_ones_each_once(templates: Templates) -> None:
    for name in ("aaa", "plain", "upscale", "zzz"):  # upscale hides the built-in one
        await templates.create(a_template(name))
    everything = sorted({*builtin_templates(), "aaa", "plain", "upscale", "zzz"})
    assert await templates.names(page_size=3) == everything
    assert await templates.names(page_size=1000) == everything
    assert (await templates.get("upscale")).description == "One colour."
    await templates.delete("upscale")
    assert (await templates.get("upscale")).description != "One colour."


async def test_built_in_ones_cannot_be_changed(templates: Templates) -> None:
    refusal = await refused(templates.update(a_template("inpaint")))
    assert (refusal.status, refusal.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "TEMPLATE_BUILT_IN",
    )
    refusal = await refused(templates.delete("inpaint"))
    assert (refusal.status, refusal.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "TEMPLATE_BUILT_IN",
    )


@pytest.mark.parametrize("name", list(builtin_templates()))
async def test_a_built_in_one_can_be_stored_under_another_name(
    templates: Templates, name: str
) -> None:
    built_in = await templates.get(name)
    copy = workflow_template_pb2.WorkflowTemplate()
    copy.CopyFrom(built_in)
    copy.name = "copy"
    stored = await templates.create(copy)
    assert list(stored.parameters) == list(built_in.parameters)


async def test_everything_wrong_with_a_template_is_named(templates: Templates) -> None:
    wrong = a_template(
        "Plain!",
        description="x" * 501,
        parameters=[
            parameter("width", "STRING", "canvas.width"),
            parameter("tall", "INTEGER", "canvas.hight"),
            parameter("odd", "INTEGER", "nowhere.width"),
        ],
    )
    wrong.parameters[2].description = "\0"
    refusal = await refused(templates.create(wrong))
    assert (refusal.status, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")
    assert {
        "template.name",
        "template.description",
        "template.parameters[0].type",
        "template.parameters[1].targets[0].input_name",
        "template.parameters[2].targets[0].node_id",
        "template.parameters[2].description",
    } <= set(refusal.fields)
    assert refusal.fields.count("template.description") == 1


async def test_a_graph_that_cannot_be_read_hides_nothing_else(templates: Templates) -> None:
    wrong = a_template(description="x" * 501)
    wrong.workflow_json = "{"
    said = await refused(templates.create(wrong))
    assert sorted(said.fields) == ["template.description", "template.workflow_json"]


async def test_a_job_runs_the_graph_with_its_values(
    templates: Templates, client: ProtocolClient, worker: ProtocolWorker
) -> None:
    await templates.create(a_template())
    offers(worker, "EmptyImage", "SaveImage")
    await worker.report_catalogue()
    job = await client.create(**of_template("plain", shade=7), width=128)
    assert job.template == job_pb2.TemplateRef(
        name="plain", version=1, arguments_json='{"shade":7}'
    )
    assert (job.width, job.HasField("height"), job.HasField("sampler")) == (128, False, False)
    lease = await worker.lease_one()
    graph = json.loads(lease.workflow_json)
    assert graph["canvas"]["inputs"] == {"width": 128, "height": 64, "batch_size": 1, "color": 7}
    assert graph["save"] == GRAPH["save"]


async def test_a_job_keeps_its_graph_when_the_template_changes_or_goes(
    templates: Templates, client: ProtocolClient, worker: ProtocolWorker
) -> None:
    await templates.create(a_template())
    offers(worker, "EmptyImage", "SaveImage")
    await worker.report_catalogue()
    job = await client.create(**of_template("plain"))
    await templates.update(
        a_template(parameters=[parameter("shade", "INTEGER", "canvas.color", default_json="1")])
    )
    await templates.delete("plain")
    changed = await client.stub.UpdateJob(
        pb.UpdateJobRequest(
            job=job_pb2.GenerationJob(id=job.id, width=256),
            update_mask=field_mask_pb2.FieldMask(paths=["width"]),
        ),
        timeout=20,
    )
    assert (changed.job.template.version, changed.job.width) == (1, 256)
    canvas = json.loads((await worker.lease_one()).workflow_json)["canvas"]["inputs"]
    assert (canvas["width"], canvas["color"]) == (256, 255)


async def test_everything_wrong_with_a_jobs_values_is_named(
    templates: Templates, client: ProtocolClient
) -> None:
    await templates.create(a_template())
    job = of_template("plain", shade=-1, shadow=2, width=128)
    refusal = await refused(client.create(**job, height=128, sampler=job_pb2.Sampler(steps=3)))
    assert (refusal.status, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")
    assert set(refusal.fields) == {
        "job.template.arguments_json.shade",
        "job.template.arguments_json.shadow",
        "job.template.arguments_json.width",
        "job.height",
        "job.sampler.steps",
    }


@pytest.mark.parametrize(("name", "version"), [("nothing", 0), ("upscale", 9), ("", 0), ("a\0", 0)])
async def test_a_template_that_is_not_there(
    client: ProtocolClient, name: str, version: int
) -> None:
    refusal = await refused(client.create(**of_template(name, version)))
    assert (refusal.status, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")
    assert refusal.fields == ("job.template.name",)


async def test_a_size_that_no_job_may_have_is_refused_from_a_template_too(
    templates: Templates, client: ProtocolClient
) -> None:
    wide = parameter("width", "INTEGER", "canvas.width", default_json="4097")
    await templates.create(a_template(parameters=[wide]))
    refusal = await refused(client.create(**of_template("plain")))
    assert (refusal.status, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")
    assert refusal.fields == ("job.width",)


async def test_a_user_has_templates_of_their_own_name(client: ProtocolClient, sql: Sql) -> None:
    """Whose they are is in the table; what a role sees of it comes with the roles."""
    templates = Templates(client)
    await templates.create(a_template())
    somebody = UUID(int=7)
    await sql.execute(
        "INSERT INTO workflow_templates (owner, name, version, description, workflow, parameters)"
        " SELECT %s, name, 1, 'Theirs.', replace(workflow, '64', '128'), '[]'"
        " FROM workflow_templates",
        [somebody],
    )
    assert (await templates.get("plain")).description == "One colour."
    job = await client.create(**of_template("plain"), user_id=str(somebody))
    assert job.template.arguments_json == "{}"


def offers(worker: ProtocolWorker, *classes: str) -> None:
    """Have node classes from now on; the service learns it from ``report_catalogue``."""
    for catalogue in worker.catalogues:
        catalogue.node_classes.extend(classes)
        catalogue.digest += "-nodes"
