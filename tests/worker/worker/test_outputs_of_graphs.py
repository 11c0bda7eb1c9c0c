"""Whatever a graph makes comes back: every kind, complete, described, with the right bytes."""

import asyncio
import hashlib
import io
import wave
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from generation_jobs.v1 import artifact_pb2, job_error_pb2, job_pb2
from generation_jobs.v1.artifact_pb2 import Artifact
from generation_jobs.v1.job_pb2 import GenerationJob
from PIL import Image

from comfy_worker.simulator import Simulator, SimulatorSettings
from comfy_worker.simulator.settings import DEFAULT_CHECKPOINTS
from job_service.client import JobServiceClient
from tests.worker.comfyui.comfy_proxy import ComfyProxy
from tests.worker.worker.asking import SECONDS, completed, ended, picture
from tests.worker.worker.conftest import StartWorker
from tests.worker.worker.lease_editor import LeaseEditor

Nodes = dict[str, Any]


def node(class_type: str, **inputs: Any) -> Nodes:
    return {"class_type": class_type, "inputs": inputs}


def pictures(count: int = 1, *, color: int = 0x336699) -> Nodes:
    return node("EmptyImage", width=32, height=24, batch_size=count, color=color)


def different_pictures(count: int) -> Nodes:
    """The nodes that make a batch of 32 by 24 pixels; it comes out of "frames"."""
    return {
        "model": node("CheckpointLoaderSimple", ckpt_name=DEFAULT_CHECKPOINTS[0]),
        "text": node("CLIPTextEncode", text="waves", clip=["model", 1]),
        "latent": node("EmptyLatentImage", width=32, height=24, batch_size=count),
        "sampler": node(
            "KSampler",
            model=["model", 0],
            positive=["text", 0],
            negative=["text", 0],
            latent_image=["latent", 0],
            seed=1,
            steps=1,
            cfg=1.0,
            sampler_name="euler",
            scheduler="normal",
            denoise=1.0,
        ),
        "frames": node("VAEDecode", samples=["sampler", 0], vae=["model", 2]),
    }


@pytest.fixture
async def simulator(tmp_path: Path) -> Any:
    settings = SimulatorSettings(
        step_seconds=0.002,
        load_seconds=0.0,
        probe_nodes=True,
        output_directory=tmp_path / "comfyui" / "output",
        input_directory=tmp_path / "comfyui" / "input",
    )
    async with Simulator(settings) as running:
        yield running
        running.faults.release_all()


class Asker:
    """Runs graphs, and reads what came of them."""

    def __init__(self, jobs: JobServiceClient, leases: LeaseEditor, folder: Path) -> None:
        self._jobs = jobs
        self._leases = leases
        self._folder = folder

    async def run(self, graph: Mapping[str, Any] | str) -> GenerationJob:
        """The job of this graph, which must be COMPLETED."""
        self._leases.graph = graph
        return await completed(self._jobs, (await self._jobs.create_job(picture())).id)

    async def fail(self, graph: Mapping[str, Any] | str) -> job_error_pb2.JobError:
        """The error of this graph's job, which must be FAILED for good."""
        self._leases.graph = graph
        asked = await self._jobs.create_job(picture(max_attempts=1))
        job = await ended(self._jobs, asked.id)
        assert job.status == job_pb2.JOB_STATUS_FAILED, job
        return job.error

    async def content(self, artifact: Artifact) -> bytes:
        """The stored bytes, which must be the announced ones."""
        path = self._folder / f"{artifact.id}"
        await self._jobs.download(artifact.id, path)
        content = path.read_bytes()
        assert len(content) == artifact.size
        assert hashlib.sha256(content).digest() == artifact.sha256
        return content


@pytest.fixture
async def ask(
    jobs: JobServiceClient, leases: LeaseEditor, start_worker: StartWorker, tmp_path: Path
) -> Asker:
    start_worker(job_service=leases.address)
    folder = tmp_path / "downloads"
    folder.mkdir()
    return Asker(jobs, leases, folder)


def outputs(job: GenerationJob) -> list[Artifact]:
    return [each for each in job.artifacts if each.role == artifact_pb2.ARTIFACT_ROLE_OUTPUT]


def seconds(artifact: Artifact) -> timedelta:
    return artifact.duration.ToTimedelta()


async def test_every_kind_in_one_job(ask: Asker) -> None:
    job = await ask.run(
        {
            **different_pictures(4),
            "save": node("SaveImage", images=["frames", 0], filename_prefix="still"),
            "animation": node(
                "SaveAnimatedWEBP",
                images=["frames", 0],
                filename_prefix="moving/loop",
                fps=4.0,
                lossless=True,
                quality=80,
                method="fastest",
            ),
            "video": node(
                "SimulatedVideo",
                images=["frames", 0],
                filename_prefix="video/clip",
                fps=2.0,
                least_bytes=0,
            ),
            "sound": node(
                "SimulatedAudio", filename_prefix="audio/tone", seconds=0.5, frequency=440.0
            ),
            "mesh": node("SimulatedMesh", filename_prefix="mesh/triangle"),
            "note": node("PreviewAny", source="a lighthouse\nat dawn"),
            "sent": node("SaveImageWebsocket", images=["frames", 0]),
        }
    )
    made = outputs(job)
    by_node = {each.node_id: each for each in made}
    assert [each.position for each in made] == list(range(len(made)))
    kinds = {each.node_id: each.content_type for each in made}
    assert kinds == {
        "save": "image/png",
        "animation": "image/webp",
        "video": "video/webm",
        "sound": "audio/wav",
        "mesh": "model/gltf-binary",
        "note": "text/plain",
        "sent": "image/png",
    }
    assert sum(each.node_id == "save" for each in made) == 4
    assert sum(each.node_id == "sent" for each in made) == 4
    assert by_node["save"].filename == "still_00004_.png"
    assert by_node["animation"].filename == "loop_00001_.webp"
    for name in ("save", "animation", "video", "sent"):
        assert (by_node[name].width, by_node[name].height) == (32, 24), name
    assert seconds(by_node["animation"]) == timedelta(seconds=1)
    assert seconds(by_node["video"]) == timedelta(seconds=2)
    assert seconds(by_node["sound"]) == timedelta(seconds=0.5)
    for name in ("save", "mesh", "note"):
        assert not by_node[name].HasField("duration"), name
    assert (await ask.content(by_node["note"])).decode() == "a lighthouse\nat dawn"
    with wave.open(io.BytesIO(await ask.content(by_node["sound"]))) as sound:
        assert sound.getnframes() / sound.getframerate() == 0.5
    pixels: dict[str, list[bytes]] = {"save": [], "sent": []}
    for each in made:
        if each.node_id in pixels:
            with Image.open(io.BytesIO(await ask.content(each))) as image:
                pixels[each.node_id].append(image.tobytes())
    assert pixels["save"] == pixels["sent"]
    assert len(set(pixels["sent"])) == 4
    assert (await ask.content(by_node["video"])).startswith(b"\x1a\x45\xdf\xa3")
    assert (await ask.content(by_node["mesh"])).startswith(b"glTF")
    # Only pictures have thumbnails, animations one of their first frame.
    thumbnailed = {
        made[each.position].node_id
        for each in job.artifacts
        if each.role == artifact_pb2.ARTIFACT_ROLE_THUMBNAIL
    }
    assert thumbnailed == {"save", "animation", "sent"}


async def test_texts_alone_are_a_result(ask: Asker) -> None:
    (text,) = outputs(await ask.run({"1:2/x": node("PreviewAny", source="ünï ✓")}))
    assert (await ask.content(text)).decode() == "ünï ✓"
    assert (text.filename, text.node_id) == ("1_2_x_text_00001.txt", "1:2/x")


async def test_a_large_seed_reaches_the_node_and_its_picture(ask: Asker) -> None:
    graph = """{
        "m": {"class_type": "CheckpointLoaderSimple",
              "inputs": {"ckpt_name": "dreamshaper_8.safetensors"}},
        "t": {"class_type": "CLIPTextEncode", "inputs": {"text": "x", "clip": ["m", 1]}},
        "l": {"class_type": "EmptyLatentImage",
              "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "k": {"class_type": "KSampler", "inputs": {"model": ["m", 0], "positive": ["t", 0],
              "negative": ["t", 0], "latent_image": ["l", 0], "seed": 18446744073709551615,
              "steps": 1, "cfg": 7.10, "sampler_name": "euler", "scheduler": "normal",
              "denoise": 1.0}},
        "d": {"class_type": "VAEDecode", "inputs": {"samples": ["k", 0], "vae": ["m", 2]}},
        "s": {"class_type": "SaveImage", "inputs": {"images": ["d", 0], "filename_prefix": "p"}}
    }"""
    (made,) = outputs(await ask.run(graph))
    with Image.open(io.BytesIO(await ask.content(made))) as image:
        assert '"seed": 18446744073709551615' in image.text["prompt"]  # type: ignore[attr-defined]


async def test_equal_graphs_have_files_of_their_own(ask: Asker, simulator: Simulator) -> None:
    graph = {
        "1": pictures(),
        "2": node("SaveImage", images=["1", 0], filename_prefix="same/name"),
    }
    first, second = outputs(await ask.run(graph)), outputs(await ask.run(graph))
    assert first[0].id != second[0].id
    folder = simulator.settings.output_directory
    assert folder is not None
    assert len(list(folder.rglob("name_00001_.png"))) == 2


async def test_files_that_are_gone_are_made_once_more(
    ask: Asker, simulator: Simulator, jobs: JobServiceClient, leases: LeaseEditor
) -> None:
    folder = simulator.settings.output_directory
    assert folder is not None
    leases.graph = {
        "1": pictures(),
        "2": node("ProbeSlow", image=["1", 0], steps=1, step_seconds=0, preview=False, nonce=1),
        "3": node("SaveImage", images=["2", 0], filename_prefix="gone"),
        # It runs after the picture is saved, and is held until that is deleted.
        "4": node("ProbeSlow", image=["1", 0], steps=3, step_seconds=0, preview=False, nonce=2),
        "5": node("PreviewImage", images=["4", 0]),
    }
    hold = simulator.faults.hold(step=3)
    asked = await jobs.create_job(picture())
    async with asyncio.timeout(SECONDS):
        await hold.reached()
    for path in folder.rglob("gone_*.png"):
        path.unlink()
    hold.release()
    job = await completed(jobs, asked.id)
    (made,) = outputs(job)
    assert made.filename == "gone_00001_.png"
    assert simulator.signals.started[job.comfyui_prompt_id] == 2
    # Under another name: ComfyUI may begin the second run before it has dropped its cache.
    (path,) = folder.rglob("gone_*.png")
    assert path.parent.name == f"{job.comfyui_prompt_id}-again"


async def test_sent_pictures_that_were_missed_are_made_once_more(
    jobs: JobServiceClient,
    leases: LeaseEditor,
    start_worker: StartWorker,
    simulator: Simulator,
) -> None:
    leases.graph = {
        "1": pictures(2),
        "2": node("ProbeSlow", image=["1", 0], steps=3, step_seconds=0, preview=False, nonce=3),
        "3": node("SaveImageWebsocket", images=["2", 0]),
    }
    hold = simulator.faults.hold(step=2)
    async with ComfyProxy(simulator.url).serving() as proxy:
        start_worker(job_service=leases.address, comfyui_urls=f"gpu={proxy.url}")
        asked = await jobs.create_job(picture())
        async with asyncio.timeout(SECONDS):
            await hold.reached()
            await proxy.cut_sockets()
            hold.release()
        job = await completed(jobs, asked.id)
    assert (job.attempt, len(outputs(job))) == (1, 2)
    assert simulator.signals.started[job.comfyui_prompt_id] == 2


async def test_files_that_stay_away_fail_the_job_and_name_the_file(
    ask: Asker, simulator: Simulator
) -> None:
    simulator.faults.files_are_gone = True
    graph = {"1": pictures(), "2": node("SaveImage", images=["1", 0], filename_prefix="lost")}
    error = await ask.fail(graph)
    assert error.code == job_error_pb2.ERROR_CODE_OUTPUT_MISSING
    assert "'lost_00001_.png'" in error.message


async def test_nothing_put_out_is_an_error_that_says_so(ask: Asker) -> None:
    error = await ask.fail({"1": pictures(), "2": node("ProbeUI", image=["1", 0], with_ui=False)})
    assert error.code == job_error_pb2.ERROR_CODE_OUTPUT_MISSING
    assert error.message == "The run succeeded but put nothing out."


async def test_a_path_out_of_the_output_folder_is_refused(ask: Asker) -> None:
    graph = {"1": pictures(), "2": node("SaveImage", images=["1", 0], filename_prefix="../x")}
    error = await ask.fail(graph)
    assert error.code == job_error_pb2.ERROR_CODE_WORKFLOW_FORBIDDEN
    assert (error.node_id, error.node_input_errors[0].input_name) == ("2", "filename_prefix")


async def test_a_text_that_is_no_graph_fails_with_the_reason(ask: Asker) -> None:
    error = await ask.fail('{"1": {"class_type": 7}}')
    assert error.code == job_error_pb2.ERROR_CODE_INVALID_WORKFLOW
    assert error.message == "node '1' has no class_type"


async def test_a_refused_value_comes_back_with_those_like_it(ask: Asker) -> None:
    error = await ask.fail(
        {
            "1": node("CheckpointLoaderSimple", ckpt_name="Dreamshaper8.safetensors"),
            "2": node("PreviewAny", source=["1", 0]),
        }
    )
    assert error.code == job_error_pb2.ERROR_CODE_MODEL_NOT_FOUND
    (wrong,) = error.node_input_errors
    assert (wrong.node_id, wrong.node_type, wrong.input_name) == (
        "1",
        "CheckpointLoaderSimple",
        "ckpt_name",
    )
    assert list(wrong.suggestions)[:1] == ["dreamshaper_8.safetensors"]
    assert wrong.message.endswith("did you mean 'dreamshaper_8.safetensors'?")
    assert error.recovery_suggestions[0] == (
        "Set ckpt_name of node 1 to dreamshaper_8.safetensors."
    )
