"""Jobs that bring a graph of their own: what is checked, what is kept, what is leased."""

import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from generation_jobs.v1 import generation_job_service_pb2 as pb
from generation_jobs.v1 import job_pb2

from comfy_worker.comfyui import ServerInfo
from comfy_worker.comfyui.catalogue import catalogue_of
from comfy_worker.worker.catalogue_report import backend_catalogue
from job_service.settings import Settings, UnknownModels, load
from tests.jobs_protocol import PENDING, ProtocolClient, Refused, refused
from tests.unit.workflows.object_info import INFO, text_to_image
from tests.worker_protocol import ProtocolWorker

AT = "job.workflow_json"
UI_FORMAT = {
    "last_node_id": 2,
    "last_link_id": 1,
    "version": 0.4,
    "nodes": [
        {
            "id": 1,
            "type": "EmptyImage",
            "mode": 0,
            "inputs": [],
            "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
            "widgets_values": [64, 128, 1, 255],
        },
        {
            "id": 2,
            "type": "SaveImage",
            "mode": 0,
            "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
            "outputs": [],
            "widgets_values": ["mine"],
        },
    ],
    "links": [[1, 1, 0, 2, 0, "IMAGE"]],
}


@pytest.fixture
async def worker(channel: grpc.aio.Channel) -> ProtocolWorker:
    """A worker that has said what the nodes of its ComfyUI take."""
    worker = ProtocolWorker(channel)
    server = ServerInfo("0.8.0", "cpu", 0, interrupts_by_id=True)
    worker.catalogues = [backend_catalogue("gpu0", catalogue_of(INFO), server)]
    await worker.report_catalogue()
    await worker.lease(wait=0)  # only who has asked for work is known to be there
    return worker


async def create(client: ProtocolClient, graph: Any, **fields: Any) -> job_pb2.GenerationJob:
    """Create a job with a graph, given as text or to be written as JSON."""
    text = graph if isinstance(graph, str) else json.dumps(graph)
    return await client.create(workflow_json=text, checkpoint_model="", **fields)


async def refusal_of(client: ProtocolClient, graph: Any, **fields: Any) -> Refused:
    refusal = await refused(create(client, graph, **fields))
    assert (refusal.status, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")
    return refusal


def changed(change: Callable[[dict[str, Any]], None]) -> str:
    """The text of the usual graph, changed."""
    graph = text_to_image()
    change(graph)
    return json.dumps(graph)


def with_input(node_id: str, name: str, value: Any) -> str:
    return changed(lambda graph: graph[node_id]["inputs"].update({name: value}))


def with_node(class_type: str, **inputs: Any) -> str:
    return changed(lambda graph: graph.update(x={"class_type": class_type, "inputs": inputs}))


async def test_a_graph_is_kept_and_leased_byte_for_byte(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    text = (
        json.dumps(text_to_image(), indent=3)
        .replace("9007199254740993", "18446744073709551615")
        .replace("7.5", "7.50")
    )
    text = text.replace(
        '"class_type": "VAEDecode"', '"is_changed": [NaN], "class_type": "VAEDecode"'
    )

    job = await create(client, text, job_type=job_pb2.JOB_TYPE_VIDEO)

    assert (job.workflow_json, job.checkpoint_model) == (text, "sd15.safetensors")
    lease = await worker.lease_one()  # which makes images only, but has the nodes
    assert (lease.job_id, lease.workflow_json) == (job.id, text)
    assert not lease.job.workflow_json


async def test_what_the_user_interface_saves_is_converted(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await create(client, UI_FORMAT)
    graph = json.loads(job.workflow_json)
    assert graph["1"]["inputs"] == {"width": 64, "height": 128, "batch_size": 1, "color": 255}
    assert graph["2"]["inputs"] == {"images": ["1", 0], "filename_prefix": "mine"}
    assert (await worker.lease_one()).workflow_json == job.workflow_json


async def test_without_a_worker_the_user_interfaces_format_is_refused_with_what_to_do(
    client: ProtocolClient,
) -> None:
    refusal = await refusal_of(client, UI_FORMAT)
    assert refusal.fields == (AT,)
    assert "Export (API)" in refusal.message


async def test_a_model_that_nobody_offers_is_waited_for(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    job = await create(client, with_input("1", "ckpt_name", "sd16.safetensors"))
    assert job.pending_reason == job_pb2.PENDING_REASON_NO_WORKER_OFFERS
    assert "did you mean 'sd15.safetensors'" in (await client.get(job.id)).pending_detail
    refusal = await refusal_of(client, with_input("5", "sampler_name", "eular"))
    assert refusal.fields == (f'{AT}.nodes["5"].inputs.sampler_name',)
    assert '"euler"' in refusal.message


class TestStrict:
    """Where unknown models are refused."""

    @pytest.fixture
    def service_settings(self, service_settings: Settings) -> Settings:
        return service_settings.model_copy(update={"unknown_models": UnknownModels.REJECT})

    async def test_a_model_that_nobody_offers_is_refused(
        self, client: ProtocolClient, worker: ProtocolWorker
    ) -> None:
        refusal = await refusal_of(client, with_input("1", "ckpt_name", "sd16.safetensors"))
        assert refusal.fields == (f'{AT}.nodes["1"].inputs.ckpt_name',)
        assert "sd15.safetensors" in refusal.message


LINK_AWAY = with_input("7", "images", ["99", 0])
CYCLE = with_input("4", "width", ["6", 0])
REFUSED = {
    "a link to nowhere": (LINK_AWAY, f'{AT}.nodes["7"].inputs.images'),
    "a cycle": (CYCLE, AT),
    "another type": (with_input("7", "images", ["1", 0]), f'{AT}.nodes["7"].inputs.images'),
    "out of bounds": (with_input("5", "steps", 10_001), f'{AT}.nodes["5"].inputs.steps'),
    "no output": (changed(lambda graph: graph.pop("7")), AT),
    "an unknown class": (with_node("KSamplr"), f'{AT}.nodes["x"].class_type'),
    "a path up": (
        with_input("1", "ckpt_name", "../../secret.safetensors"),
        f'{AT}.nodes["1"].inputs.ckpt_name',
    ),
    "a path from the root": (
        with_input("7", "filename_prefix", "/etc/cron.d/x"),
        f'{AT}.nodes["7"].inputs.filename_prefix',
    ),
    "a prefix that climbs": (
        with_input("7", "filename_prefix", "a/../../x"),
        f'{AT}.nodes["7"].inputs.filename_prefix',
    ),
    "somebody's file": (
        with_node("LoadImage", image="example.png"),
        f'{AT}.nodes["x"].inputs.image',
    ),
    "an input that is not bound": (
        with_node("LoadImage", image="input://face"),
        f'{AT}.nodes["x"].inputs.image',
    ),
    "a class that fetches addresses": (
        with_node("LoadImageFromUrl", url="http://169.254.169.254/"),
        f'{AT}.nodes["x"].class_type',
    ),
    "a class that runs code": (with_node("PythonExec", code="1"), f'{AT}.nodes["x"].class_type'),
    "not JSON": ("{", AT),
    "a list": ("[]", AT),
    "nothing": ("{}", AT),
    "too deep": ('{"1": ' + "[" * 5000 + "]" * 5000 + "}", AT),
    "too many nodes": (
        json.dumps({str(n): {"class_type": "A", "inputs": {}} for n in range(10_000)}),
        AT,
    ),
    "too large": (" " * (1024 * 1024 + 1), AT),
    "a key twice": (
        '{"1": {"class_type": "A", "inputs": {"seed": 1, "seed": 2}}}',
        f'{AT}.nodes["1"].inputs.seed',
    ),
    "a number that is none": (
        '{"1": {"class_type": "A", "inputs": {"cfg": NaN}}}',
        f'{AT}.nodes["1"].inputs.cfg',
    ),
    "half a surrogate pair": (
        '{"1": {"class_type": "A", "inputs": {"text": "\\ud800"}}}',
        f'{AT}.nodes["1"].inputs.text',
    ),
    "NUL": (
        '{"1": {"class_type": "A", "inputs": {"text": "\\u0000"}}}',
        f'{AT}.nodes["1"].inputs.text',
    ),
}


async def test_what_cannot_or_may_not_be_run_is_refused_with_its_place(
    client: ProtocolClient, worker: ProtocolWorker, subtests: pytest.Subtests
) -> None:
    for what, (text, field) in REFUSED.items():
        with subtests.test(what):
            refusal = await refusal_of(client, text)
            assert any(each.startswith(field) for each in refusal.fields), refusal.fields
            assert refusal.details_bytes <= 4096
    assert not (await client.list_jobs()).jobs


async def test_a_prompt_may_hold_anything(client: ProtocolClient, worker: ProtocolWorker) -> None:
    words = "../../etc/passwd http://a.example/ $HOME %2e%2e C:\\ input ; rm -rf / 💥 ' OR 1=1"
    job = await create(client, with_input("2", "text", words))
    assert json.loads((await worker.lease_one()).workflow_json)["2"]["inputs"]["text"] == words
    assert job.status == PENDING


async def test_fields_that_a_graph_does_not_heed_are_named(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    refusal = await refusal_of(
        client,
        text_to_image(),
        width=512,
        sampler=job_pb2.Sampler(steps=3),
        lora_models=[job_pb2.Lora(name="detail.safetensors")],
    )
    assert set(refusal.fields) == {"job.width", "job.sampler.steps", "job.lora_models"}
    request = pb.CreateJobRequest(
        job=job_pb2.GenerationJob(
            prompt="p",
            checkpoint_model="sdxl/base.safetensors",
            workflow_json=json.dumps(text_to_image()),
        )
    )
    assert (await refused(client.send(request))).fields == ("job.checkpoint_model",)
    request.job.checkpoint_model = "sd15.safetensors"
    assert (await client.send(request)).checkpoint_model == "sd15.safetensors"


async def test_a_batch_with_graphs_names_what_is_wrong_in_each(
    client: ProtocolClient, worker: ProtocolWorker
) -> None:
    graphs = [json.dumps(text_to_image()), LINK_AWAY, with_input("5", "steps", -1)]
    request = pb.BatchCreateJobsRequest(
        requests=[
            pb.CreateJobRequest(job=job_pb2.GenerationJob(prompt="p", workflow_json=text))
            for text in graphs
        ]
    )
    refusal = await refused(client.stub.BatchCreateJobs(request, timeout=20))
    assert set(refusal.fields) == {
        'requests[1].job.workflow_json.nodes["7"].inputs.images',
        'requests[2].job.workflow_json.nodes["5"].inputs.steps',
    }
    assert not (await client.list_jobs()).jobs


class TestInstallationsOwnRules:
    """What an operator allows and denies."""

    @pytest.fixture
    def service_settings(
        self, service_settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> Settings:
        """Read from the environment, as an operator writes them."""
        nodes = len(text_to_image())
        monkeypatch.setenv("JOB_SERVICE_ONLY_NODE_CLASSES", "KSampler, Empty*, CLIP*, VAE*, Save*")
        monkeypatch.setenv("JOB_SERVICE_ALLOW_NODE_CLASSES", "Checkpoint*")
        monkeypatch.setenv("JOB_SERVICE_DENY_NODE_CLASSES", "SaveImageWebsocket")
        monkeypatch.setenv("JOB_SERVICE_MAX_WORKFLOW_NODES", str(nodes))
        names = "only_node_classes", "allow_node_classes", "deny_node_classes", "max_workflow_nodes"
        written = load()
        return service_settings.model_copy(update={name: getattr(written, name) for name in names})

    async def test_they_hold_for_every_job(
        self, client: ProtocolClient, worker: ProtocolWorker
    ) -> None:
        await create(client, text_to_image())
        for class_type in ("SaveImageWebsocket", "PreviewImage"):
            graph = text_to_image()
            graph["7"]["class_type"] = class_type
            refusal = await refusal_of(client, graph)
            assert f'{AT}.nodes["7"].class_type' in refusal.fields
        refusal = await refusal_of(client, with_node("EmptyImage"))
        assert refusal.fields == (AT,)
        assert "nodes" in refusal.message
