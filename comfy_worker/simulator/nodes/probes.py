"""The test nodes the recordings were made with: slow, stubborn, failing, talking ones."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from comfy_worker.simulator.drawing import PREVIEW_SIDE, preview_frame
from comfy_worker.simulator.nodes.context import NodeContext, NodeError, PromptInterrupted
from comfy_worker.simulator.nodes.declaration import Input, NodeClass, NodeResult, Output

_FAILURES = {
    "value": ("probe says no", "ValueError"),
    "oom": ("probe oom", "torch.OutOfMemoryError"),
    # In the recording this kind ends the server process, which the simulator will not do.
    "exit": ("probe exit", "SystemExit"),
}


async def _slow(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    images = inputs["image"]
    shown = images[0].resize((PREVIEW_SIDE, PREVIEW_SIDE))
    for step in range(1, inputs["steps"] + 1):
        await context.wait(inputs["step_seconds"])
        fraction = step / inputs["steps"]
        frame = partial(preview_frame, shown, fraction) if inputs["preview"] else None
        await context.step(step, inputs["steps"], frame)
    return NodeResult((images,))


async def _stubborn(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    await context.wait(inputs["seconds"])
    await context.work_regardless()
    return NodeResult((inputs["image"],))


async def _raise(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    if inputs["kind"] == "interrupt":
        raise PromptInterrupted
    raise NodeError(*_FAILURES[inputs["kind"]])


async def _text(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    context.send_text(inputs["text"])
    return NodeResult((inputs["image"],))


async def _show(context: NodeContext, inputs: Mapping[str, Any]) -> NodeResult:
    shown = {"text": ["hello"], "numbers": [1, 2.5]}
    return NodeResult((), shown if inputs["with_ui"] else None)


_MODULE = "custom_nodes.probe_nodes"
_IMAGE = Input("image", "IMAGE")
_NONCE = Input("nonce", "INT", {"default": 0, "min": 0, "max": 2**53})

PROBE_NODES: tuple[NodeClass, ...] = (
    NodeClass(
        name="ProbeSlow",
        run=_slow,
        inputs=(
            _IMAGE,
            Input("steps", "INT", {"default": 10, "min": 1, "max": 100000}),
            Input(
                "step_seconds", "FLOAT", {"default": 0.2, "min": 0.0, "max": 60.0, "step": 0.001}
            ),
            Input("preview", "BOOLEAN", {"default": False}),
            _NONCE,
        ),
        outputs=(Output("IMAGE"),),
        category="probe",
        display_name="ProbeSlow",
        python_module=_MODULE,
    ),
    NodeClass(
        name="ProbeStubborn",
        run=_stubborn,
        inputs=(
            _IMAGE,
            Input("seconds", "FLOAT", {"default": 2.0, "min": 0.0, "max": 600.0}),
            _NONCE,
        ),
        outputs=(Output("IMAGE"),),
        category="probe",
        display_name="ProbeStubborn",
        python_module=_MODULE,
    ),
    NodeClass(
        name="ProbeRaise",
        run=_raise,
        inputs=(_IMAGE, Input("kind", ("value", "oom", "exit", "interrupt")), _NONCE),
        outputs=(Output("IMAGE"),),
        category="probe",
        display_name="ProbeRaise",
        python_module=_MODULE,
    ),
    NodeClass(
        name="ProbeText",
        run=_text,
        inputs=(
            _IMAGE,
            Input("text", "STRING", {"default": "hi"}),
            Input("nonce", "INT", {"default": 0}),
        ),
        outputs=(Output("IMAGE"),),
        hidden={"unique_id": "UNIQUE_ID"},
        category="probe",
        display_name="ProbeText",
        python_module=_MODULE,
    ),
    NodeClass(
        name="ProbeUI",
        run=_show,
        inputs=(_IMAGE, Input("with_ui", "BOOLEAN", {"default": True})),
        category="probe",
        display_name="ProbeUI",
        output_node=True,
        python_module=_MODULE,
    ),
)
