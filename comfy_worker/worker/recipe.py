"""From a job to the graph that ComfyUI runs for it. Pure."""

from generation_jobs.v1.job_pb2 import GenerationJob

from comfy_worker.comfyui import Graph, Lora, TextToImage, build_text_to_image


class UnknownRecipeError(ValueError):
    """The job asks for something this version of the worker does not know."""


def graph_of(job: GenerationJob, prompt_id: str) -> Graph:
    """Build the graph of a job whose defaults job_service has resolved.

    Its files are named for the prompt id, which no two attempts share.
    Raises UnknownRecipeError.
    """
    if job.WhichOneof("recipe") is not None:
        raise UnknownRecipeError("this worker runs only the built-in text-to-image")
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
            filename_prefix=f"generation-jobs/{prompt_id}",
        )
    )
