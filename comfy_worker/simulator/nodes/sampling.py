"""The sampler, and the way from latents to pictures."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from comfy_worker.simulator.drawing import PREVIEW_SIDE, Picture, preview_frame, sketch
from comfy_worker.simulator.nodes.context import NodeContext
from comfy_worker.simulator.nodes.declaration import Input, NodeClass, NodeResult, Output
from comfy_worker.simulator.nodes.latents import drawn
from comfy_worker.simulator.nodes.values import Conditioning, Images, Latent, Model

SAMPLERS = (
    *("euler", "euler_cfg_pp", "euler_ancestral", "euler_ancestral_cfg_pp", "heun", "heunpp2"),
    *("exp_heun_2_x0", "exp_heun_2_x0_sde", "dpm_2", "dpm_2_ancestral", "lms", "dpm_fast"),
    *("dpm_adaptive", "dpmpp_2s_ancestral", "dpmpp_2s_ancestral_cfg_pp", "dpmpp_sde"),
    *("dpmpp_sde_gpu", "dpmpp_2m", "dpmpp_2m_cfg_pp", "dpmpp_2m_sde", "dpmpp_2m_sde_gpu"),
    *("dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu", "dpmpp_3m_sde", "dpmpp_3m_sde_gpu", "ddpm"),
    *("lcm", "ipndm", "ipndm_v", "deis", "res_multistep", "res_multistep_cfg_pp"),
    *("res_multistep_ancestral", "res_multistep_ancestral_cfg_pp", "gradient_estimation"),
    *("gradient_estimation_cfg_pp", "er_sde", "seeds_2", "seeds_3", "sa_solver"),
    *("sa_solver_pece", "ddim", "uni_pc", "uni_pc_bh2"),
)
SCHEDULERS = (
    *("simple", "sgm_uniform", "karras", "exponential", "ddim_uniform", "beta", "normal"),
    *("linear_quadratic", "kl_optimal"),
)


async def _sample(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    latent: Latent = inputs["latent_image"]
    base = await drawn(context, latent) if latent.pictures else latent.base
    pictures = _pictures(inputs, base)
    steps: int = inputs["steps"] if inputs["denoise"] > 0 else 0
    image = None
    for step in range(1, steps + 1):
        await context.wait(context.settings.step_seconds)
        if context.previews and image is None:
            image = await context.in_thread(sketch, pictures[0], PREVIEW_SIDE)
        frame = None if image is None else partial(preview_frame, image, step / steps)
        await context.step(step, steps, frame)
    return NodeResult((replace(latent, pictures=pictures),))


async def _decode(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    return NodeResult((await drawn(context, inputs["samples"]),))


def _pictures(inputs: Mapping[str, Any], base: Images) -> tuple[Picture, ...]:
    model: Model = inputs["model"]
    positive: Conditioning = inputs["positive"]
    negative: Conditioning = inputs["negative"]
    latent: Latent = inputs["latent_image"]
    named = ("steps", "cfg", "sampler_name", "scheduler", "denoise")
    style = [model.style(), positive.style(), *(str(inputs[name]) for name in named)]
    return tuple(
        Picture(
            prompt=positive.text,
            negative_prompt=negative.text,
            seed=inputs["seed"],
            index=index,
            width=latent.width,
            height=latent.height,
            style="|".join(style),
            base=base[index] if base else None,
            denoise=inputs["denoise"],
            mask=latent.noise_mask[index % len(latent.noise_mask)] if latent.noise_mask else None,
            guides=positive.guides,
        )
        for index in range(latent.batch_size)
    )


_KSAMPLER_INPUTS = (
    Input("model", "MODEL", {"tooltip": "Model that samples."}),
    Input(
        "seed",
        "INT",
        {
            "default": 0,
            "min": 0,
            "max": 2**64 - 1,
            "control_after_generate": True,
            "tooltip": "Seed of the noise.",
        },
    ),
    Input("steps", "INT", {"default": 20, "min": 1, "max": 10000, "tooltip": "Number of steps."}),
    Input(
        "cfg",
        "FLOAT",
        {
            "default": 8.0,
            "min": 0.0,
            "max": 100.0,
            "step": 0.1,
            "round": 0.01,
            "tooltip": "How closely to follow the prompt.",
        },
    ),
    Input("sampler_name", SAMPLERS, {"tooltip": "Sampling algorithm."}),
    Input("scheduler", SCHEDULERS, {"tooltip": "How the noise decreases over the steps."}),
    Input("positive", "CONDITIONING", {"tooltip": "What the picture shall show."}),
    Input("negative", "CONDITIONING", {"tooltip": "What it shall not show."}),
    Input("latent_image", "LATENT", {"tooltip": "Latent to start from."}),
    Input(
        "denoise",
        "FLOAT",
        {
            "default": 1.0,
            "min": 0.0,
            "max": 1.0,
            "step": 0.01,
            "tooltip": "How much to change the latent; 1 starts from pure noise.",
        },
    ),
)

SAMPLING_NODES: tuple[NodeClass, ...] = (
    NodeClass(
        name="KSampler",
        run=_sample,
        inputs=_KSAMPLER_INPUTS,
        outputs=(Output("LATENT", "Sampled latent."),),
        category="sampling",
        display_name="KSampler",
        description="Samples latents with a model from two conditionings.",
    ),
    NodeClass(
        name="VAEDecode",
        run=_decode,
        inputs=(
            Input("samples", "LATENT", {"tooltip": "Latent to decode."}),
            Input("vae", "VAE", {"tooltip": "VAE that decodes."}),
        ),
        outputs=(Output("IMAGE", "Decoded pictures."),),
        category="latent",
        display_name="VAE Decode",
        description="Turns latents into pictures.",
    ),
)
