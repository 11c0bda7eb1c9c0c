"""Writes an SD1.5-shaped checkpoint and a LoRA for it, both of random weights.

Run by install.py in ComfyUI's environment: ``python checkpoint.py CHECKPOINT LORA``. ComfyUI's own
model classes give the names and shapes; the sizes are the smallest and fastest that it still takes
for SD1.5. The same torch makes the same bytes every time.
"""

import re
import sys
from pathlib import Path

import torch
from comfy.cli_args import args

# Without this, importing ComfyUI's model code looks for a GPU and fails where there is none.
args.cpu = True

from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel  # noqa: E402
from comfy.sd1_clip import SD1ClipModel  # noqa: E402
from comfy.taesd.taesd import TAESD  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

Weights = dict[str, torch.Tensor]

LORA_RANK = 4
_LORA_TARGETS = re.compile(r"(attn[12]\.to_[qkv]|self_attn\.[qkv]_proj)\.weight$")


def main(checkpoint: Path, lora: Path) -> None:
    generator = torch.Generator().manual_seed(15)
    unet = _randomised(_unet(), generator)
    text_encoder = _text_encoder(generator)
    autoencoder = _autoencoder(generator)
    _save(
        _prefixed("model.diffusion_model.", unet)
        | _prefixed("cond_stage_model.", text_encoder)
        | _prefixed("first_stage_model.", autoencoder),
        checkpoint,
    )
    _save(
        _lora("lora_unet_", unet, generator)
        | _lora("lora_te_", _without_prefix("transformer.", text_encoder), generator),
        lora,
    )


def _unet() -> torch.nn.Module:
    # Attention only at half resolution: at full resolution it takes most of the time of a large
    # picture. model_channels, context_dim and num_heads are what SD1.5 is recognised by.
    return UNetModel(
        image_size=32,
        in_channels=4,
        out_channels=4,
        model_channels=320,
        context_dim=768,
        num_heads=8,
        use_spatial_transformer=True,
        legacy=False,
        channel_mult=[1, 1],
        num_res_blocks=[1, 1],
        transformer_depth=[0, 1],
        transformer_depth_middle=-2,
        transformer_depth_output=[0, 0, 1, 1],
    )


def _text_encoder(generator: torch.Generator) -> Weights:
    weights = _without_prefix("clip_l.", _randomised(SD1ClipModel(), generator))
    # A real SD1.5 checkpoint has neither of these two.
    return {
        name: tensor
        for name, tensor in weights.items()
        if name not in {"logit_scale", "transformer.text_projection.weight"}
    }


def _autoencoder(generator: torch.Generator) -> Weights:
    module = TAESD()
    weights = _randomised(module, generator)
    # Keeps the decoded colours, 0 to 1, from being clipped to black and white.
    last_layer = f"taesd_decoder.{len(module.taesd_decoder) - 1}"
    weights[f"{last_layer}.weight"] *= 0.1
    weights[f"{last_layer}.bias"].fill_(0.5)
    return weights


def _randomised(module: torch.nn.Module, generator: torch.Generator) -> Weights:
    """Weights scaled by fan-in, so that activations keep their size and fp16 never overflows."""
    return {
        name: _random(tuple(tensor.shape), generator)
        if tensor.ndim > 1
        else tensor.detach().half()
        if tensor.ndim == 0
        else torch.full_like(tensor, float(name.endswith(".weight")), dtype=torch.float16)
        for name, tensor in module.state_dict().items()
    }


def _random(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    values = torch.randn(shape, generator=generator)
    return (values * values[0].numel() ** -0.5).half()


def _lora(prefix: str, weights: Weights, generator: torch.Generator) -> Weights:
    """At strength 1 each patch is about as large as the attention weight it is added to."""
    lora: Weights = {}
    for name, tensor in weights.items():
        if _LORA_TARGETS.search(name):
            rows, columns = tensor.shape
            key = prefix + name.removesuffix(".weight").replace(".", "_")
            lora[f"{key}.lora_down.weight"] = _random((LORA_RANK, columns), generator)
            lora[f"{key}.lora_up.weight"] = _random((rows, LORA_RANK), generator)
            lora[f"{key}.alpha"] = torch.tensor(float(LORA_RANK))
    return lora


def _prefixed(prefix: str, weights: Weights) -> Weights:
    return {prefix + name: tensor for name, tensor in weights.items()}


def _without_prefix(prefix: str, weights: Weights) -> Weights:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items()}


def _save(weights: Weights, path: Path) -> None:
    partial = path.with_suffix(".partial")
    save_file(weights, partial, metadata={"format": "pt"})
    partial.replace(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
