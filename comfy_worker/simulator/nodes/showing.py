"""A node that shows any value as text."""

import json
from collections.abc import Mapping
from typing import Any

from comfy_worker.simulator.nodes.context import NodeContext
from comfy_worker.simulator.nodes.declaration import Input, NodeClass, NodeResult


async def _show(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    return NodeResult((), {"text": [_as_text(inputs["source"])]})


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return str(value)
    try:
        return json.dumps(value, indent=4)
    except TypeError:
        return str(value)


SHOWING_NODES: tuple[NodeClass, ...] = (
    NodeClass(
        name="PreviewAny",
        run=_show,
        inputs=(Input("source", "*", {}),),
        category="utils",
        display_name="Preview as Text",
        output_node=True,
        python_module="comfy_extras.nodes_preview_any",
    ),
)
