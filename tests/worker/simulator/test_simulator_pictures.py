"""Pictures are real, repeatable, different where they should be, and say how they were made."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from comfy_worker.simulator import Simulator
from tests.worker.simulator.client import Client, images, plain_image, text_to_image


async def picture(client: Client, graph: dict[str, Any]) -> Image.Image:
    entry = await client.run(graph)
    (file,) = images(entry)
    return Image.open(io.BytesIO(await client.file(file)))


async def pixels(client: Client, graph: dict[str, Any]) -> bytes:
    return (await picture(client, graph)).tobytes()


async def test_a_picture_has_the_size_asked_for(client: Client) -> None:
    image = await picture(client, text_to_image(size=(832, 1216)))

    assert (image.format, image.mode, image.size) == ("PNG", "RGB", (832, 1216))
    assert len(image.getcolors(maxcolors=2**24) or ()) > 1000


async def test_the_same_prompt_and_seed_draw_the_same_picture_anew(client: Client) -> None:
    first = await pixels(client, text_to_image(prefix="one"))
    assert await client.post("/free", {"free_memory": True}) == 200
    second = await pixels(client, text_to_image(prefix="two"))

    assert first == second


@pytest.mark.parametrize(
    "other",
    [
        text_to_image("a blue whale"),
        text_to_image(seed=2),
        text_to_image(steps=4),
    ],
    ids=["prompt", "seed", "steps"],
)
async def test_another_prompt_seed_or_setting_draws_another_picture(
    other: dict[str, Any], client: Client
) -> None:
    assert await pixels(client, text_to_image()) != await pixels(client, other)


async def test_a_batch_has_so_many_different_pictures(client: Client) -> None:
    files = images(await client.run(text_to_image(batch_size=4)))

    assert [file["filename"] for file in files] == [
        f"picture_{number:05}_.png" for number in (1, 2, 3, 4)
    ]
    assert len({await client.file(file) for file in files}) == 4


async def test_graph_and_workflow_are_in_the_metadata(client: Client) -> None:
    graph = text_to_image("snow, \u96ea")
    entry = await client.run(graph, extra_data={"extra_pnginfo": {"workflow": {"id": "w1"}}})
    (file,) = images(entry)

    image = Image.open(io.BytesIO(await client.file(file)))
    assert json.loads(image.info["prompt"]) == graph
    assert json.loads(image.info["workflow"]) == {"id": "w1"}


async def test_names_go_on_after_the_highest_number_in_the_folder(
    client: Client, simulator: Simulator
) -> None:
    directory = simulator.settings.output_directory
    assert directory is not None
    (directory / "a").mkdir()
    (directory / "a" / "pic_00041_.png").write_bytes(b"older")

    (file,) = images(await client.run(plain_image(prefix="a/pic")))
    assert file == {"filename": "pic_00042_.png", "subfolder": "a", "type": "output"}
    assert (directory / "a" / "pic_00042_.png").is_file()


@pytest.mark.parametrize("prefix", ["../escaped", "a/../../escaped", "/escaped"])
async def test_a_prefix_that_leads_out_of_the_directory_fails_at_run_time(
    prefix: str, client: Client, tmp_path: Path
) -> None:
    entry = await client.run(plain_image(prefix=prefix))

    name, error = entry["status"]["messages"][-1]
    assert (name, error["node_type"]) == ("execution_error", "SaveImage")
    assert "outside the output directory" in error["exception_message"]
    assert not list(tmp_path.rglob("escaped*"))


async def test_a_name_the_disk_refuses_fails_the_prompt_alone(client: Client) -> None:
    entry = await client.run(plain_image(prefix="x" * 300))

    name, error = entry["status"]["messages"][-1]
    assert (name, error["exception_type"]) == ("execution_error", "OSError")
    assert "File name too long" in error["exception_message"]
    assert (await client.run(plain_image()))["status"]["completed"] is True


async def test_image_to_image_keeps_of_the_base_what_denoise_leaves(client: Client) -> None:
    graph = text_to_image()
    graph["10"] = {
        "class_type": "EmptyImage",
        "inputs": {"width": 128, "height": 192, "batch_size": 1, "color": 0xFF0000},
    }
    graph["11"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0], "vae": ["4", 2]}}
    graph["3"]["inputs"]["latent_image"] = ["11", 0]

    graph["3"]["inputs"]["denoise"] = 0.1
    nearly_red = (await picture(client, graph)).getpixel((64, 20))
    graph["3"]["inputs"]["denoise"] = 1.0
    drawn_over = (await picture(client, graph)).getpixel((64, 20))

    assert isinstance(nearly_red, tuple)
    assert nearly_red[0] > 200
    assert max(nearly_red[1:]) < 60
    assert drawn_over != nearly_red


async def test_pictures_can_be_loaded_scaled_blurred_and_inverted(
    client: Client, simulator: Simulator
) -> None:
    directory = simulator.settings.input_directory
    assert directory is not None
    Image.new("RGB", (40, 20), (255, 0, 0)).save(directory / "red.png")
    graph: dict[str, Any] = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "red.png"}},
        "2": {
            "class_type": "ImageScale",
            "inputs": {
                "image": ["1", 0],
                "upscale_method": "bilinear",
                "width": 80,
                "height": 0,
                "crop": "disabled",
            },
        },
        "3": {
            "class_type": "ImageBlur",
            "inputs": {"image": ["2", 0], "blur_radius": 2, "sigma": 1.0},
        },
        "4": {"class_type": "ImageInvert", "inputs": {"image": ["3", 0]}},
        "5": {"class_type": "SaveImage", "inputs": {"images": ["4", 0], "filename_prefix": "x"}},
    }

    image = await picture(client, graph)

    assert image.size == (80, 40)
    assert image.getpixel((40, 20)) == (0, 255, 255)
