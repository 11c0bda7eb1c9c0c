"""Where a graph takes uploaded files: ``input://NAME`` stands for the input of that name."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from job_service.workflows.graph import INPUT_SCHEME, Graph, Node, references
from job_service.workflows.problems import (
    Problem,
    ProblemList,
    input_path,
    quoted,
    suggestion,
)
from job_service.workflows.signatures import NodeSignatures

INPUT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")

UPLOAD_INPUTS: Final = frozenset(
    {
        ("LoadImage", "image"),
        ("LoadImageMask", "image"),
        ("LoadAudio", "audio"),
        ("LoadVideo", "file"),
        ("Load3D", "model_file"),
        ("Load3DAnimation", "model_file"),
        ("VHS_LoadVideo", "video"),
        ("VHS_LoadVideoFFmpeg", "video"),
        ("VHS_LoadAudioUpload", "audio"),
    }
)
"""Inputs that name a file in ComfyUI's input folder, known without signatures."""


@dataclass(frozen=True, slots=True)
class BoundInputs:
    """A graph whose uploads are all named ``input://NAME``, and the names it uses, sorted."""

    graph: Graph
    used: tuple[str, ...]


def bind_inputs(
    graph: Graph, names: Collection[str], signatures: NodeSignatures | None = None
) -> BoundInputs:
    """Connect the job's inputs, by name, with where the graph takes them.

    ``names`` are the names in ``GenerationJob.inputs``. Raises InvalidWorkflowError for a name that
    the job does not bind, for an upload that names none, and for a binding that nothing uses
    (under the path ``inputs``).
    """
    problems = ProblemList()
    used: set[str] = set()
    bound = graph.copy()
    for node_id, node in bound.nodes.items():
        for name, value in list(node.inputs.items()):
            if is_upload(node, name, signatures):
                _bind_upload(problems, used, node_id, node, name, names)
            else:
                for text in references(value):
                    _use(problems, used, input_path(node_id, name), text, names)
    problems.extend(
        Problem("inputs", f"nothing in the graph uses the input {quoted(name)}")
        for name in sorted(set(names) - used)
        if not problems
    )
    problems.raise_if_any()
    return BoundInputs(bound, tuple(sorted(used)))


def is_upload(node: Node, name: str, signatures: NodeSignatures | None) -> bool:
    """Whether an input takes the name of an uploaded file."""
    if (node.class_type, name) in UPLOAD_INPUTS:
        return True
    signature = signatures.input(node.class_type, name) if signatures else None
    return signature is not None and signature.is_upload


def _bind_upload(
    problems: ProblemList,
    used: set[str],
    node_id: str,
    node: Node,
    name: str,
    names: Collection[str],
) -> None:
    value = node.inputs[name]
    path = input_path(node_id, name)
    if not isinstance(value, str):
        # What a link brings is known only when it is too late.
        problems.add(path, f'must be the name of an input of the job: "{INPUT_SCHEME}NAME"')
    elif value.startswith(INPUT_SCHEME):
        _use(problems, used, path, value, names)
    elif value in names:
        node.inputs[name] = INPUT_SCHEME + value
        used.add(value)
    else:
        problems.add(
            path,
            f"names the file {quoted(value)}, which is no input of this job: upload it with"
            " UploadInput, bind it in the job's inputs and write"
            f' "{INPUT_SCHEME}NAME" here' + _known(value, names),
        )


def _use(
    problems: ProblemList, used: set[str], path: str, text: str, names: Collection[str]
) -> None:
    name = text.removeprefix(INPUT_SCHEME)
    if name in names:
        used.add(name)
    else:
        problems.add(path, f"the job has no input {quoted(name)}" + _known(name, names))


def _known(name: str, names: Collection[str]) -> str:
    ordered = sorted(names)
    return suggestion(name, ordered) or (
        f"; the job's inputs are {', '.join(map(quoted, ordered[:10]))}" if ordered else ""
    )
