"""What a simulated ComfyUI offers and how long its work takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_CHECKPOINTS = (
    "dreamshaper_8.safetensors",
    "sd_xl_base_1.0.safetensors",
    "v1-5-pruned-emaonly.safetensors",
)
DEFAULT_LORAS = ("add_detail.safetensors", "film_grain.safetensors", "watercolor.safetensors")
DEFAULT_CONTROLNETS = ("control_v11p_sd15_canny.pth", "control_v11p_sd15_openpose.pth")
DEFAULT_DIFFUSION_MODELS = ("flux1-dev.safetensors", "flux1-schnell.safetensors")
DEFAULT_TEXT_ENCODERS = ("clip_g.safetensors", "clip_l.safetensors", "t5xxl_fp16.safetensors")
DEFAULT_UPSCALE_MODELS = ("4x-UltraSharp.pth", "RealESRGAN_x2plus.pth")
DEFAULT_VAES = (
    "ae.safetensors",
    "sdxl_vae.safetensors",
    "vae-ft-mse-840000-ema-pruned.safetensors",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    """Everything that is fixed for the life of one simulator.

    All times are in seconds. With the defaults a job of 28 sampler steps takes about 3 s.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        step_seconds: Time one sampler step takes.
        load_seconds: Time CheckpointLoaderSimple takes.
        checkpoint_load_seconds: The same for single checkpoints, by file name.
        time_scale: Factor on every simulated waiting, also on the times graphs ask for.
        history_delay_seconds: Time between `execution_success` and the history entry.
        checkpoints: File names `ckpt_name` accepts.
        loras: File names `lora_name` accepts.
        vaes: File names `vae_name` accepts, besides ComfyUI's own `pixel_space`.
        controlnets: File names `control_net_name` accepts.
        diffusion_models: File names `unet_name` accepts.
        text_encoders: File names the CLIP loaders accept.
        upscale_models: File names `model_name` of UpscaleModelLoader accepts; a number beside
            an x in a name is the factor, else it is 4.
        embeddings: Names `GET /embeddings` lists.
        preview_method: Previews for prompts that do not ask: `none` or `latent2rgb`.
        output_directory: Where SaveImage writes; None is a directory removed at the end.
        input_directory: Where uploads go and LoadImage reads; None as above.
        probe_nodes: Offer the test nodes of the recordings (ProbeSlow, ProbeRaise, …).

    """

    host: str = "127.0.0.1"
    port: int = 0
    step_seconds: float = 0.1
    load_seconds: float = 0.2
    checkpoint_load_seconds: Mapping[str, float] = field(default_factory=dict)
    time_scale: float = 1.0
    history_delay_seconds: float = 0.005
    checkpoints: tuple[str, ...] = DEFAULT_CHECKPOINTS
    loras: tuple[str, ...] = DEFAULT_LORAS
    vaes: tuple[str, ...] = DEFAULT_VAES
    controlnets: tuple[str, ...] = DEFAULT_CONTROLNETS
    diffusion_models: tuple[str, ...] = DEFAULT_DIFFUSION_MODELS
    text_encoders: tuple[str, ...] = DEFAULT_TEXT_ENCODERS
    upscale_models: tuple[str, ...] = DEFAULT_UPSCALE_MODELS
    embeddings: tuple[str, ...] = ()
    preview_method: str = "none"
    output_directory: Path | None = None
    input_directory: Path | None = None
    probe_nodes: bool = False
