"""What the built-in templates are made of runs, and its results look like what they are."""

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat

from comfy_worker.simulator import Simulator
from comfy_worker.simulator.settings import (
    DEFAULT_CONTROLNETS,
    DEFAULT_DIFFUSION_MODELS,
    DEFAULT_TEXT_ENCODERS,
)
from tests.worker.simulator.client import CHECKPOINT, Client, images

SIZE = (96, 64)
Graph = dict[str, Any]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def sampled(latent: list[Any], *, denoise: float = 1.0, **changes: Any) -> Graph:
    """A checkpoint, its sampler on ``latent``, and what saves the picture; with ``changes``."""
    return {
        "model": node("CheckpointLoaderSimple", ckpt_name=CHECKPOINT),
        "positive": node("CLIPTextEncode", text="a harbour", clip=["model", 1]),
        "negative": node("CLIPTextEncode", text="", clip=["model", 1]),
        "sampler": node(
            "KSampler",
            **{
                "model": ["model", 0],
                "positive": ["positive", 0],
                "negative": ["negative", 0],
                "latent_image": latent,
                "seed": 7,
                "steps": 2,
                "cfg": 5.5,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": denoise,
                **changes,
            },
        ),
        "decode": node("VAEDecode", samples=["sampler", 0], vae=["model", 2]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="picture"),
    }


@pytest.fixture
def given_picture(simulator: Simulator) -> Image.Image:
    """A picture in the input directory, as "given.png": red above, blue below."""
    assert simulator.settings.input_directory is not None
    picture = Image.new("RGB", SIZE, (200, 30, 30))
    picture.paste((30, 30, 200), (0, 32, 96, 64))
    picture.save(simulator.settings.input_directory / "given.png")
    return picture


@pytest.fixture
def given_mask(simulator: Simulator) -> Image.Image:
    """A mask in the input directory, as "mask.png": the left third, in red."""
    assert simulator.settings.input_directory is not None
    mask = Image.new("RGB", SIZE, (0, 0, 0))
    mask.paste((255, 0, 0), (0, 0, 32, 64))
    mask.save(simulator.settings.input_directory / "mask.png")
    return mask


async def picture_of(client: Client, graph: Graph) -> Image.Image:
    (file,) = images(await client.run(graph))
    return Image.open(io.BytesIO(await client.file(file))).convert("RGB")


def difference(first: Image.Image, second: Image.Image) -> float:
    """Mean difference of all channels, 0 to 255."""
    means = ImageStat.Stat(ImageChops.difference(first, second)).mean
    return sum(means) / len(means)


async def test_image_to_image_resembles_its_input_the_more_the_less_it_denoises(
    client: Client, given_picture: Image.Image
) -> None:
    def changed(denoise: float) -> Graph:
        return {
            "load": node("LoadImage", image="given.png"),
            "encode": node("VAEEncode", pixels=["load", 0], vae=["model", 2]),
            **sampled(["encode", 0], denoise=denoise),
        }

    differences = [
        difference(given_picture, await picture_of(client, changed(denoise)))
        for denoise in (0.1, 0.5, 0.9)
    ]
    assert differences == sorted(differences)
    assert differences[0] < 15
    assert differences[2] > 3 * differences[0]


@pytest.mark.parametrize("kind", ["VAEEncodeForInpaint", "SetLatentNoiseMask", "model"])
async def test_inpainting_changes_only_what_is_masked(
    kind: str, client: Client, given_picture: Image.Image, given_mask: Image.Image
) -> None:
    loaded = {
        "load": node("LoadImage", image="given.png"),
        "mask": node("LoadImageMask", image="mask.png", channel="red"),
        "encode": node("VAEEncode", pixels=["load", 0], vae=["model", 2]),
    }
    pixels = {"pixels": ["load", 0], "vae": ["model", 2], "mask": ["mask", 0]}
    if kind == "VAEEncodeForInpaint":
        graph = sampled(["latent", 0])
        graph["latent"] = node(kind, **pixels, grow_mask_by=0)
    elif kind == "SetLatentNoiseMask":
        graph = sampled(["latent", 0])
        graph["latent"] = node(kind, samples=["encode", 0], mask=["mask", 0])
    else:
        graph = sampled(["latent", 2], positive=["latent", 0], negative=["latent", 1])
        prompts = {"positive": ["positive", 0], "negative": ["negative", 0]}
        graph["latent"] = node("InpaintModelConditioning", **prompts, **pixels, noise_mask=True)
    painted = await picture_of(client, {**loaded, **graph})

    outside, inside = (32, 0, 96, 64), (0, 0, 32, 64)
    assert difference(given_picture.crop(outside), painted.crop(outside)) == 0
    assert difference(given_picture.crop(inside), painted.crop(inside)) > 10


async def test_a_mask_out_of_the_alpha_channel(client: Client, simulator: Simulator) -> None:
    assert simulator.settings.input_directory is not None
    picture = Image.new("RGBA", SIZE, (200, 30, 30, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 32, 64))
    picture.save(simulator.settings.input_directory / "alpha.png")
    graph = {
        "load": node("LoadImage", image="alpha.png"),
        "encode": node("VAEEncode", pixels=["load", 0], vae=["model", 2]),
        "latent": node("SetLatentNoiseMask", samples=["encode", 0], mask=["load", 1]),
        **sampled(["latent", 0]),
    }
    painted = await picture_of(client, graph)
    assert painted.getpixel((60, 30)) == (200, 30, 30)


@pytest.mark.parametrize(
    ("model", "size"), [("4x-UltraSharp.pth", (384, 256)), ("RealESRGAN_x2plus.pth", (192, 128))]
)
async def test_an_upscale_model_multiplies_the_size(
    model: str, size: tuple[int, int], client: Client, given_picture: Image.Image
) -> None:
    graph = {
        "load": node("LoadImage", image="given.png"),
        "model": node("UpscaleModelLoader", model_name=model),
        "up": node("ImageUpscaleWithModel", upscale_model=["model", 0], image=["load", 0]),
        "save": node("SaveImage", images=["up", 0], filename_prefix="large"),
    }
    large = await picture_of(client, graph)
    assert large.size == size
    assert difference(given_picture, large.resize(SIZE)) < 5


async def test_pictures_and_latents_are_scaled(client: Client, given_picture: Image.Image) -> None:
    graph = {
        "load": node("LoadImage", image="given.png"),
        "by": node("ImageScaleBy", image=["load", 0], upscale_method="lanczos", scale_by=1.5),
        "save": node("SaveImage", images=["by", 0], filename_prefix="by"),
    }
    assert (await picture_of(client, graph)).size == (144, 96)
    hires = {
        **sampled(["empty", 0]),
        "empty": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "up": node(
            "LatentUpscale",
            samples=["sampler", 0],
            upscale_method="bislerp",
            width=128,
            height=128,
            crop="disabled",
        ),
    }
    again = dict(hires["sampler"]["inputs"], latent_image=["up", 0], denoise=0.2)
    hires["again"] = node("KSampler", **again)
    hires["decode"]["inputs"]["samples"] = ["again", 0]
    large = await picture_of(client, hires)
    hires["decode"]["inputs"]["samples"] = ["sampler", 0]
    small = await picture_of(client, hires)
    assert (small.size, large.size) == ((64, 64), (128, 128))
    upper = (0, 0, 128, 64)  # below, the larger one has a caption
    assert difference(small.resize((128, 128)).crop(upper), large.crop(upper)) < 15


async def test_a_repeated_latent_makes_different_pictures(
    client: Client, given_picture: Image.Image
) -> None:
    graph = {
        "load": node("LoadImage", image="given.png"),
        "encode": node("VAEEncode", pixels=["load", 0], vae=["model", 2]),
        "repeat": node("RepeatLatentBatch", samples=["encode", 0], amount=3),
        **sampled(["repeat", 0], denoise=0.8),
    }
    made = [await client.file(file) for file in images(await client.run(graph))]
    assert len(set(made)) == 3


async def test_a_control_net_shows_the_forms_of_its_picture(
    client: Client, given_picture: Image.Image
) -> None:
    def controlled(strength: float) -> Graph:
        return {
            "load": node("LoadImage", image="given.png"),
            "net": node("ControlNetLoader", control_net_name=DEFAULT_CONTROLNETS[0]),
            "apply": node(
                "ControlNetApplyAdvanced",
                positive=["positive", 0],
                negative=["negative", 0],
                control_net=["net", 0],
                image=["load", 0],
                vae=["model", 2],
                strength=strength,
                start_percent=0.0,
                end_percent=1.0,
            ),
            "empty": node("EmptyLatentImage", width=96, height=64, batch_size=1),
            **sampled(["empty", 0], positive=["apply", 0], negative=["apply", 1]),
        }

    free = await picture_of(client, controlled(0.0))
    bound = await picture_of(client, controlled(1.0))
    assert difference(given_picture, bound) < difference(given_picture, free)


async def test_flux_and_sd3_graphs_run(client: Client) -> None:
    encoders = DEFAULT_TEXT_ENCODERS
    latent = node("EmptySD3LatentImage", width=64, height=64, batch_size=1)
    flux = sampled(["empty", 0], positive=["guided", 0], negative=["nothing", 0])
    flux |= {
        "model": node("UNETLoader", unet_name=DEFAULT_DIFFUSION_MODELS[0], weight_dtype="default"),
        "clips": node(
            "DualCLIPLoader", clip_name1=encoders[1], clip_name2=encoders[2], type="flux"
        ),
        "vae": node("VAELoader", vae_name="ae.safetensors"),
        "positive": node(
            "CLIPTextEncodeFlux",
            clip=["clips", 0],
            clip_l="a harbour",
            t5xxl="a quiet harbour",
            guidance=3.5,
        ),
        "guided": node("FluxGuidance", conditioning=["positive", 0], guidance=2.0),
        "nothing": node("ConditioningZeroOut", conditioning=["positive", 0]),
        "empty": latent,
        "decode": node("VAEDecode", samples=["sampler", 0], vae=["vae", 0]),
    }
    del flux["negative"]
    sd3 = sampled(["empty", 0], model=["shifted", 0])
    sd3 |= {
        "shifted": node("ModelSamplingSD3", model=["model", 0], shift=3.0),
        "clips": node("TripleCLIPLoader", **dict(zip(NAMES, encoders, strict=True))),
        "positive": node("CLIPTextEncode", text="a harbour", clip=["clips", 0]),
        "empty": latent,
    }
    first, second = await picture_of(client, flux), await picture_of(client, sd3)
    assert (first.size, second.size) == ((64, 64), (64, 64))
    assert first.tobytes() != second.tobytes()


NAMES = ("clip_name1", "clip_name2", "clip_name3")


@pytest.mark.parametrize(
    ("class_type", "options", "media_type"),
    [
        ("SaveAnimatedWEBP", {"lossless": False, "quality": 80, "method": "fastest"}, "WEBP"),
        ("SaveAnimatedPNG", {"compress_level": 1}, "PNG"),
    ],
)
async def test_animations_have_a_frame_for_each_picture(
    class_type: str, options: dict[str, Any], media_type: str, client: Client
) -> None:
    graph = {
        "empty": node("EmptyLatentImage", width=64, height=64, batch_size=3),
        **sampled(["empty", 0]),
        "save": node(
            class_type, images=["decode", 0], filename_prefix="moving/x", fps=5.0, **options
        ),
    }
    entry = await client.run(graph)
    assert entry["outputs"]["save"]["animated"] == [True]
    (file,) = entry["outputs"]["save"]["images"]
    with Image.open(io.BytesIO(await client.file(file))) as animation:
        assert (animation.format, getattr(animation, "n_frames", 1)) == (media_type, 3)


async def test_any_value_is_shown_as_text(client: Client) -> None:
    graph = {
        "text": node("PreviewAny", source="two\nlines"),
        "number": node("PreviewAny", source=2.5),
        "empty": node("EmptyImage", width=8, height=8, batch_size=1, color=1),
        "image": node("PreviewAny", source=["empty", 0]),
    }
    shown = (await client.run(graph))["outputs"]
    assert shown["text"] == {"text": ["two\nlines"]}
    assert shown["number"] == {"text": ["2.5"]}
    assert "Image" in shown["image"]["text"][0]


async def test_uploads_are_offered_as_pictures_but_for_those_in_folders_and_other_files(
    client: Client, simulator: Simulator
) -> None:
    folder = simulator.settings.input_directory
    assert folder is not None
    (folder / "sub").mkdir()
    for name in ("a.png", "b.txt", "sub/c.png"):
        Path(folder / name).write_bytes(b"x")
    for class_type in ("LoadImage", "LoadImageMask"):
        info = await client.get(f"/object_info/{class_type}")
        assert info[class_type]["input"]["required"]["image"][0] == ["a.png"]


async def test_an_optional_input_may_be_left_out_but_not_be_wrong(client: Client) -> None:
    loader = node("CLIPLoader", clip_name=DEFAULT_TEXT_ENCODERS[0], type="sd3")
    graph = {"clip": loader, "show": node("PreviewAny", source=["clip", 0])}
    entry = await client.run(graph)
    assert "clip_g" in entry["outputs"]["show"]["text"][0]
    loader["inputs"]["device"] = "toaster"
    async with client.http.post("/prompt", json={"prompt": graph}) as response:
        body = await response.json()
    (error,) = body["node_errors"]["clip"]["errors"]
    assert (response.status, error["type"]) == (400, "value_not_in_list")
