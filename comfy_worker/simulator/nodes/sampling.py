"""Latents, the sampler, and the way between latents and pictures."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from PIL import Image

from comfy_worker.simulator.drawing import PREVIEW_SIDE, Picture, draw, preview_frame, sketch
from comfy_worker.simulator.nodes.context import NodeContext
from comfy_worker.simulator.nodes.declaration import Input, NodeClass, NodeResult, Output
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


async def _empty_latent(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    # A latent has one cell for 8 by 8 pixels: odd sizes are rounded down.
    width, height = inputs["width"] // 8 * 8, inputs["height"] // 8 * 8
    return NodeResult((Latent(width, height, inputs["batch_size"]),))


async def _sample(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    pictures = _pictures(inputs)
    steps: int = inputs["steps"] if inputs["denoise"] > 0 else 0
    image = None
    for step in range(1, steps + 1):
        await context.wait(context.settings.step_seconds)
        if context.previews and image is None:
            image = await context.in_thread(sketch, pictures[0], PREVIEW_SIDE)
        frame = None if image is None else partial(preview_frame, image, step / steps)
        await context.step(step, steps, frame)
    latent: Latent = inputs["latent_image"]
    done = Latent(latent.width, latent.height, latent.batch_size, pictures, latent.base)
    return NodeResult((done,))


async def _decode(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    latent: Latent = inputs["samples"]
    images: Images
    if latent.pictures:
        images = tuple([await context.in_thread(draw, each) for each in latent.pictures])
    elif latent.base:
        images = latent.base
    else:
        grey = Image.new("RGB", (latent.width, latent.height), (127, 127, 127))
        images = (grey,) * latent.batch_size
    return NodeResult((images,))


async def _encode(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    pixels: Images = inputs["pixels"]
    width, height = (max(side // 8 * 8, 8) for side in pixels[0].size)
    base = tuple(image.crop((0, 0, width, height)) for image in pixels)
    return NodeResult((Latent(width, height, len(base), base=base),))


def _pictures(inputs: Mapping[str, Any]) -> tuple[Picture, ...]:
    model: Model = inputs["model"]
    positive: Conditioning = inputs["positive"]
    negative: Conditioning = inputs["negative"]
    latent: Latent = inputs["latent_image"]
    named = ("steps", "cfg", "sampler_name", "scheduler", "denoise")
    style = [model.style(), positive.clip.style(), *(str(inputs[name]) for name in named)]
    return tuple(
        Picture(
            prompt=positive.text,
            negative_prompt=negative.text,
            seed=inputs["seed"],
            index=index,
            width=latent.width,
            height=latent.height,
            style="|".join(style),
            base=latent.base[index] if latent.base else None,
            denoise=inputs["denoise"],
        )
        for index in range(latent.batch_size)
    )


def _pixels(tooltip: str) -> dict[str, Any]:
    return {"default": 512, "min": 16, "max": 16384, "step": 8, "tooltip": tooltip}


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
        name="EmptyLatentImage",
        run=_empty_latent,
        inputs=(
            Input("width", "INT", _pixels("Width in pixels.")),
            Input("height", "INT", _pixels("Height in pixels.")),
            Input(
                "batch_size",
                "INT",
                {"default": 1, "min": 1, "max": 4096, "tooltip": "Number of pictures."},
            ),
        ),
        outputs=(Output("LATENT", "Latents to sample from."),),
        category="latent",
        display_name="Empty Latent Image",
        description="Makes a batch of empty latents.",
    ),
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
    NodeClass(
        name="VAEEncode",
        run=_encode,
        inputs=(Input("pixels", "IMAGE"), Input("vae", "VAE")),
        outputs=(Output("LATENT"),),
        category="latent",
        display_name="VAE Encode",
    ),
)
