"""Every file a prompt made is found, in order; previews only where there is nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from comfy_worker.comfyui import OutputFile, OutputText
from comfy_worker.comfyui.outputs import output_files, output_texts
from tests.worker.comfyui import recorded

ITEMS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["filename", "subfolder", "type", "x"]), inner)
    ),
    max_leaves=20,
)


def image(filename: str, folder: str = "output", subfolder: str = "") -> dict[str, str]:
    return {"filename": filename, "subfolder": subfolder, "type": folder}


@given(st.dictionaries(st.text(), st.dictionaries(st.text(), ITEMS)) | ITEMS)
def test_any_outputs_give_files(outputs: object) -> None:
    for file in output_files(outputs):
        assert file.filename
    for text in output_texts(outputs):
        assert text.text


def test_any_node_and_any_key_in_order() -> None:
    outputs = {
        "9": {"images": [image("b.png"), image("a.png", subfolder="x/y")], "animated": [False]},
        "3": {"gifs": [image("c.webp")], "text": ["hello"], "numbers": [1, 2.5]},
        "5": {"audio": [image("d.flac")], "3d": image("e.glb")},
    }
    assert output_files(outputs) == (
        OutputFile("9", "images", "b.png", "", "output"),
        OutputFile("9", "images", "a.png", "x/y", "output"),
        OutputFile("3", "gifs", "c.webp", "", "output"),
        OutputFile("5", "audio", "d.flac", "", "output"),
        OutputFile("5", "3d", "e.glb", "", "output"),
    )


def test_previews_are_left_out_beside_results() -> None:
    outputs = {"2": {"images": [image("p.png", "temp")]}, "4": {"images": [image("r.png")]}}
    assert [file.filename for file in output_files(outputs)] == ["r.png"]


def test_previews_are_the_result_where_there_is_nothing_else() -> None:
    files = output_files({"2": {"images": [image("p.png", "temp")]}})
    assert [(file.filename, file.is_preview) for file in files] == [("p.png", True)]


def test_a_file_named_twice_is_one_file() -> None:
    assert len(output_files({"2": {"images": [image("a.png"), image("a.png")]}})) == 1


def test_recorded_outputs() -> None:
    answers = recorded.answers("02_empty_save_flags", "/history/")
    _, body = next(iter(answers))
    (entry,) = body.values()
    assert [file.filename for file in output_files(entry["outputs"])] == [
        "probe02_00003_.png",
        "probe02_00004_.png",
    ]


def test_texts_are_found_in_order_and_settings_are_none() -> None:
    outputs = {
        "9": {"text": ["one", "", "two"], "format": ["video/mp4"], "images": [image("a.png")]},
        "3:1/x": {"string": "three", "generated_text": ["four"], "context": ["no"]},
    }
    assert output_texts(outputs) == (
        OutputText("9", "9_text_00001.txt", "one"),
        OutputText("9", "9_text_00002.txt", "two"),
        OutputText("3:1/x", "3_1_x_text_00003.txt", "three"),
        OutputText("3:1/x", "3_1_x_text_00004.txt", "four"),
    )


def test_recorded_texts() -> None:
    outputs = [
        entry["outputs"]
        for name in recorded.all_names()
        for _, body in recorded.answers(name, "/history/")
        if isinstance(body, dict)
        for entry in body.values()
    ]
    texts = [text for each in outputs for text in output_texts(each)]
    assert {text.text for text in texts} == {"hello"}
