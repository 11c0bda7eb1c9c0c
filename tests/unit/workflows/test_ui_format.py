"""What the user interface saves becomes the graph that its export makes, or is refused."""

import json
from typing import Any

import pytest

from job_service.workflows.problems import InvalidWorkflowError
from job_service.workflows.reading import read_workflow
from tests.unit.workflows.object_info import SIGNATURES

REROUTE = {"inputs": [{"name": "", "type": "*"}], "outputs": [{"name": "", "type": "*"}]}


def node(
    node_id: int,
    kind: str,
    values: Any = None,
    *,
    inputs: Any = (),
    outputs: Any = (),
    mode: int = 0,
) -> dict[str, Any]:
    return {
        "id": node_id,
        "type": kind,
        "mode": 0,
        "inputs": [
            {"name": name, "type": of, "link": link}
            | ({"widget": {"name": name}} if widget else {})
            for name, of, link, widget in inputs
        ],
        "outputs": [{"name": of, "type": of, "links": []} for of in outputs],
        "widgets_values": values,
    }


EMPTY = node(1, "EmptyImage", [64, 32, 2, 255], outputs=["IMAGE"])
SAVE = node(9, "SaveImage", ["x"], inputs=[("images", "IMAGE", 5, False)])


def saved(*nodes: dict[str, Any], links: Any = (), **more: Any) -> str:
    return json.dumps({"version": 0.4, "nodes": nodes, "links": list(links), **more})


def converted(text: str) -> Any:
    read = read_workflow(text, signatures=SIGNATURES)
    assert read.converted
    return {key: (each.class_type, each.inputs) for key, each in read.graph.nodes.items()}


def refusal(text: str, signatures: Any = SIGNATURES) -> str:
    with pytest.raises(InvalidWorkflowError) as error:
        read_workflow(text, signatures=signatures)
    problem = error.value.problems[0]
    assert problem.description.endswith('"Workflow → Export (API)" and send that file')
    return str(problem)


PLAIN = {
    "1": ("EmptyImage", {"width": 64, "height": 32, "batch_size": 2, "color": 255}),
    "9": ("SaveImage", {"filename_prefix": "x", "images": ["1", 0]}),
}


def test_both_versions_of_links_are_read() -> None:
    assert converted(saved(EMPTY, SAVE, links=[[5, 1, 0, 9, 0, "IMAGE"]])) == PLAIN
    link = {"id": 5, "origin_id": 1, "origin_slot": 0, "target_id": 9, "target_slot": 0}
    assert converted(saved(EMPTY, SAVE, links=[link], version=1)) == PLAIN


def test_seeds_keep_their_digits_and_their_control_widget_takes_no_place() -> None:
    values = [18446744073709551615, "randomize", 20, 8.5, "euler", "normal", 1]
    graph = converted(saved(node(3, "KSampler", values)))
    assert graph["3"][1] == {
        "seed": 18446744073709551615,
        "steps": 20,
        "cfg": 8.5,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 1,
    }


def test_reroutes_notes_and_primitives_vanish() -> None:
    text = saved(
        node(
            1, "EmptyImage", [1, 32, 2, 255], inputs=[("width", "INT", 8, True)], outputs=["IMAGE"]
        ),
        node(2, "Reroute", inputs=[("", "*", 6, False)], outputs=["IMAGE"]),
        node(3, "Reroute", inputs=[("", "*", 7, False)], outputs=["IMAGE"]),
        node(4, "PrimitiveNode", [64, "fixed"], outputs=["INT"]),
        node(5, "Note", ["text"]),
        node(6, "MarkdownNote", ["text"]),
        SAVE,
        links=[
            [5, 3, 0, 9, 0, "IMAGE"],
            [6, 1, 0, 2, 0, "IMAGE"],
            [7, 2, 0, 3, 0, "IMAGE"],
            [8, 4, 0, 1, 0, "INT"],
        ],
    )
    assert converted(text) == PLAIN


def test_muted_nodes_are_left_out_and_bypassed_ones_passed_by() -> None:
    blur = node(2, "ImageBlur", [1, 1.0], inputs=[("image", "IMAGE", 6, False)], outputs=["IMAGE"])
    links = [[5, 2, 0, 9, 0, "IMAGE"], [6, 1, 0, 2, 0, "IMAGE"]]
    assert converted(saved(EMPTY, blur | {"mode": 4}, SAVE, links=links)) == PLAIN
    muted = converted(saved(EMPTY, blur | {"mode": 2}, SAVE, links=links))
    assert muted["9"] == ("SaveImage", {"filename_prefix": "x"})
    assert "2" not in muted


def subgraph(**more: Any) -> dict[str, Any]:
    inner = [
        node(
            1, "EmptyImage", [8, 32, 2, 255], inputs=[("width", "INT", 1, True)], outputs=["IMAGE"]
        ),
        node(2, "ImageInvert", [], inputs=[("image", "IMAGE", 2, False)], outputs=["IMAGE"]),
    ]
    return {
        "id": "sub",
        "nodes": inner,
        "inputs": [{"name": "wide", "type": "INT"}],
        "outputs": [{"name": "IMAGE", "type": "IMAGE"}],
        "links": [
            {"id": 1, "origin_id": -10, "origin_slot": 0, "target_id": 1, "target_slot": 0},
            {"id": 2, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 0},
            {"id": 3, "origin_id": 2, "origin_slot": 0, "target_id": -20, "target_slot": 0},
        ],
        **more,
    }


@pytest.mark.parametrize(("values", "width"), [([], 8), (None, 8), ([77], 77)])
def test_subgraphs_are_taken_apart(values: Any, width: int) -> None:
    host = node(4, "sub", values, outputs=["IMAGE"])
    text = saved(
        host, SAVE, links=[[5, 4, 0, 9, 0, "IMAGE"]], definitions={"subgraphs": [subgraph()]}
    )
    assert converted(text) == {
        "9": ("SaveImage", {"filename_prefix": "x", "images": ["4:2", 0]}),
        "4:1": ("EmptyImage", {"width": width, "height": 32, "batch_size": 2, "color": 255}),
        "4:2": ("ImageInvert", {"image": ["4:1", 0]}),
    }


def test_a_subgraph_gets_its_values_from_outside() -> None:
    host = node(4, "sub", [], inputs=[("wide", "INT", 6, True)], outputs=["IMAGE"])
    size = node(3, "PrimitiveInt", [99, "fixed"], outputs=["INT"])
    text = saved(
        *(host, size, SAVE),
        links=[[5, 4, 0, 9, 0, "IMAGE"], [6, 3, 0, 4, 0, "INT"]],
        definitions={"subgraphs": [subgraph()]},
    )
    assert converted(text)["4:1"][1]["width"] == ["3", 0]


CIRCLE = [
    node(2, "Reroute", inputs=[("", "*", 6, False)], outputs=["*"]),
    node(3, "Reroute", inputs=[("", "*", 7, False)], outputs=["*"]),
]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (saved({"id": 1}), "nodes[0]: is not as ComfyUI's user interface saves it"),
        (saved(EMPTY, EMPTY), "nodes[1].id: is not as"),
        (saved(EMPTY, links=[[1, 2]]), "links[0]: is not as"),
        (saved(node(1, "Nope")), 'has the node class "Nope"'),
        (saved(node(1, "workflow>mine")), "is a group node"),
        (saved(SAVE), "its link 5 is not in the workflow"),
        (saved(SAVE, links=[[5, 4, 0, 9, 0, "X"]]), 'comes from node "4", which is not there'),
        (saved(EMPTY | {"mode": 7}), "is none of the known modes"),
        (saved(EMPTY | {"widgets_values": [64, 32]}), 'without a value for "batch_size"'),
        (saved(EMPTY | {"widgets_values": [64, 32, 1, 2, 3]}), "do not fit EmptyImage"),
        (saved(EMPTY | {"widgets_values": ["64", 32, 1, 2]}), "do not fit EmptyImage"),
        (saved(node(3, "KSampler", [1, 20, 8.5, "euler", "normal", 1])), "do not fit KSampler"),
        (
            saved(node(1, "EmptyImage", [1, 2, 3, 4], inputs=[("wide", "INT", None, True)])),
            "do not fit EmptyImage",
        ),
        (saved(node(3, "CLIPTextEncode", ["a {red|blue} hat"])), "works out anew at each run"),
        (saved(node(3, "CLIPTextEncode", ["a hat // red"])), "works out anew at each run"),
        (
            saved(
                *CIRCLE,
                SAVE,
                links=[[5, 2, 0, 9, 0, "*"], [6, 3, 0, 2, 0, "*"], [7, 2, 0, 3, 0, "*"]],
            ),
            "goes round in a circle",
        ),
        (
            saved(node(4, "sub", [1, 2]), definitions={"subgraphs": [subgraph()]}),
            "has 2 values for the 1 of its subgraph",
        ),
        (
            saved(
                node(4, "sub"),
                definitions={"subgraphs": [subgraph(nodes=[node(1, "sub"), node(2, "sub")])]},
            ),
            "subgraphs",
        ),
        (
            saved(node(1, "ResizeImageMaskNode", ["scale by multiplier", 2.0, "area"])),
            'depend on its "resize_type"',
        ),
    ],
)
def test_what_would_be_guessing_is_refused(text: str, part: str) -> None:
    assert part in refusal(text)


def test_without_a_comfyui_nothing_is_converted() -> None:
    assert "no ComfyUI is connected" in refusal(saved(EMPTY), None)


def test_a_chain_of_thousands_is_followed_in_no_time() -> None:
    chain = [
        node(n, "Reroute", inputs=[("", "*", n, False)], outputs=["IMAGE"]) for n in range(2, 2000)
    ]
    links = [[n, n - 1, 0, n, 0, "IMAGE"] for n in range(2, 2000)]
    savers = [
        node(n, "SaveImage", ["x"], inputs=[("images", "IMAGE", n, False)])
        for n in range(3000, 3900)
    ]
    links += [[n, 1999, 0, n, 0, "IMAGE"] for n in range(3000, 3900)]
    graph = converted(saved(EMPTY, *chain, *savers, links=links))
    assert graph["3899"][1]["images"] == ["1", 0]
