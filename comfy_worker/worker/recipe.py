"""From a lease to the graph that ComfyUI runs for it. Pure."""

from typing import Any, Final

from generation_jobs.v1 import worker_service_pb2 as pb
from generation_jobs.v1.job_pb2 import GenerationJob

from comfy_worker.comfyui import (
    Graph,
    GraphTextError,
    Lora,
    TextToImage,
    build_text_to_image,
    leads_away,
    parse_graph,
)

_PREFIX_INPUT: Final = "filename_prefix"


class UnknownRecipeError(ValueError):
    """The job asks for something this version of the worker does not know."""


def graph_of(lease: pb.Lease, *, again: bool = False) -> Graph:
    """Build the graph of a leased job, whose defaults job_service has resolved.

    Its files go below a folder named for the prompt id, which no two attempts share, and for
    ``again``, which a second run within an attempt has: a node whose result ComfyUI has cached
    runs anew under another prefix (recording 03).
    Raises UnknownRecipeError.
    """
    folder = f"generation-jobs/{lease.prompt_id}{'-again' if again else ''}"
    if lease.workflow_json:
        try:
            return _below(folder, parse_graph(lease.workflow_json))
        except GraphTextError as error:
            raise UnknownRecipeError(str(error)) from error
    return _text_to_image(lease.job, folder)


def _below(folder: str, graph: dict[str, dict[str, Any]]) -> Graph:
    """Move what the graph saves into ``folder``; a linked prefix stays what it is."""
    for node in graph.values():
        inputs = node.get("inputs", {})
        prefix = inputs.get(_PREFIX_INPUT)
        if isinstance(prefix, bool) or not isinstance(prefix, str | int | float):
            continue
        # One that leads away would be hidden by the folder before it: the driver refuses it.
        if not leads_away(str(prefix)):
            inputs[_PREFIX_INPUT] = f"{folder}/{prefix}"
    return graph


def _text_to_image(job: GenerationJob, filename_prefix: str) -> Graph:
    if job.WhichOneof("recipe") is not None:
        raise UnknownRecipeError("the lease does not hold the graph of the job's recipe")
    if not job.checkpoint_model:
        raise UnknownRecipeError("text-to-image needs a checkpoint")
    return build_text_to_image(
        TextToImage(
            prompt=job.prompt,
            negative_prompt=job.negative_prompt,
            checkpoint=job.checkpoint_model,
            loras=tuple(
                Lora(lora.name, lora.strength_model, lora.strength_clip) for lora in job.lora_models
            ),
            width=job.width,
            height=job.height,
            batch_size=job.batch_size,
            seed=job.sampler.seed,
            steps=job.sampler.steps,
            cfg=job.sampler.cfg,
            sampler=job.sampler.sampler_name,
            scheduler=job.sampler.scheduler,
            denoise=job.sampler.denoise,
            filename_prefix=filename_prefix,
        )
    )
