"""Converts a saved workflow to API format, or says why that would be guessing."""

from typing import Any

from job_service.workflows.problems import InvalidWorkflowError, ProblemList, quoted, suggestion
from job_service.workflows.signatures import NodeSignature, NodeSignatures
from job_service.workflows.ui_format.document import (
    SavedNode,
    cannot,
    read,
)
from job_service.workflows.ui_format.expansion import (
    Nothing,
    Output,
    Scope,
    Value,
    expand,
    running_nodes,
    source_of,
)
from job_service.workflows.ui_format.widgets import values_by_input


def convert(
    document: dict[str, Any], signatures: NodeSignatures | None, *, max_nodes: int
) -> dict[str, Any]:
    """Convert a saved workflow to what ComfyUI's own export to API format makes of it.

    Nodes in subgraphs get ids like "76:6". Raises InvalidWorkflowError with every node that cannot
    be converted without guessing, and what to do instead.
    """
    if not signatures:
        raise cannot(
            "",
            "is a workflow as ComfyUI's user interface saves it, and no ComfyUI is connected whose"
            " node classes would tell what its values mean",
        )
    problems = ProblemList()
    scopes = expand(read(document), max_nodes)
    nodes = [(scope, node) for scope in scopes for node in running_nodes(scope)]
    if len(nodes) > max_nodes:
        raise cannot("", f"must have at most {max_nodes:,} nodes, has {len(nodes):,}")
    converted: dict[str, Any] = {}
    for scope, node in nodes:
        try:
            converted[scope.prefix + node.id] = {
                "inputs": _inputs(scope, node, _signature(node, signatures)),
                "class_type": node.type,
                "_meta": {"title": node.title},
            }
        except InvalidWorkflowError as error:
            problems.extend(error.problems)
    problems.raise_if_any()
    return converted


def _signature(node: SavedNode, signatures: NodeSignatures) -> NodeSignature:
    signature = signatures.get(node.type)
    if signature is not None:
        for each in signature.inputs.values():
            if each.type.startswith("COMFY_DYNAMICCOMBO"):
                raise cannot(
                    node.path, f"the inputs of {node.type} depend on its {quoted(each.name)}"
                )
        return signature
    if node.type.startswith(("workflow>", "workflow/")):
        raise cannot(node.path, "is a group node")
    if node.type in signatures.unsigned:
        raise cannot(node.path, f"it is not known what the values of {node.type} mean")
    raise cannot(
        node.path,
        f"no connected ComfyUI has the node class {quoted(node.type)}"
        + suggestion(node.type, signatures.classes),
    )


def _inputs(scope: Scope, node: SavedNode, signature: NodeSignature) -> dict[str, Any]:
    inputs = {
        name: {"__value__": value} if isinstance(value, list) else value
        for name, value in values_by_input(node, signature).items()
    }
    for each in node.inputs:
        if each.link is None:
            continue
        expected = signature.inputs.get(each.name)
        dynamic = any(
            known.is_dynamic and each.name.startswith(f"{known.name}.")
            for known in signature.inputs.values()
        )
        if expected is None and not dynamic:
            raise cannot(
                node.path,
                f"{node.type} has no input {quoted(each.name)} in the connected ComfyUIs",
            )
        match source_of(scope, each.link, f"{node.path}.inputs"):
            case Output(node_id, slot):
                inputs[each.name] = [node_id, slot]
            case Value(value):
                inputs[each.name] = {"__value__": value} if isinstance(value, list) else value
            case Nothing() if expected is not None and expected.is_widget:
                raise cannot(
                    node.path,
                    f"its {quoted(each.name)} comes from a node that is muted or not connected",
                )
            case _:
                pass
    return inputs
