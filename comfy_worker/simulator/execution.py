"""Runs one prompt: node by node, in ComfyUI's order, with ComfyUI's messages."""

import hashlib
import math
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from comfy_worker.simulator.graph import ExecutionOrder, is_link
from comfy_worker.simulator.history import HistoryEntry
from comfy_worker.simulator.machinery import Machinery
from comfy_worker.simulator.nodes.context import NodeError, PromptInterrupted
from comfy_worker.simulator.nodes.declaration import NodeClass, NodeResult
from comfy_worker.simulator.prompt_queue import QueueItem
from comfy_worker.simulator.result_cache import Signatures
from comfy_worker.simulator.run_messages import RunMessages
from comfy_worker.simulator.running_node import RunningNode

# What libraries raise on a node's input, such as a file name that is too long.
NODE_ERRORS = (ArithmeticError, LookupError, MemoryError, OSError, TypeError, ValueError)
OUT_OF_MEMORY = ("torch.OutOfMemoryError", "torch.cuda.OutOfMemoryError")


class PromptRun:
    """One run of one prompt."""

    def __init__(self, machinery: Machinery, item: QueueItem) -> None:
        self._machinery = machinery
        self._item = item
        _, self.prompt_id, self._graph, self._extra_data, self._outputs = item
        client_id = self._extra_data.get("client_id")
        self._messages = RunMessages(machinery.sockets, self.prompt_id, client_id)
        self._executed: list[str] = []
        self._shown: dict[str, dict[str, Any]] = {}
        self._rendering = False
        self._signatures = Signatures(
            self._graph,
            machinery.classes.__getitem__,
            lambda name: _fingerprint(machinery.storage.annotated_path(name)),
        )

    async def execute(self) -> HistoryEntry:
        """Run the prompt to its end, whatever that is; return what the history will say."""
        sockets = self._machinery.sockets
        sockets.running_client = self._messages.client_id
        self._machinery.interruption.clear()
        self._machinery.signals.note_started(self.prompt_id)
        self._messages.announce("execution_start", {})
        known = self._signatures.all()
        cache = self._machinery.cache
        cache.keep_only(set(known.values()))
        cached = [node_id for node_id, signature in known.items() if cache.get(signature)]
        self._messages.announce("execution_cached", {"nodes": cached})
        success = await self._execute_nodes()
        if success:
            self._messages.announce("execution_success", {})
        sockets.running_node = None
        return {
            "outputs": self._shown,
            "status": {
                "status_str": "success" if success else "error",
                "completed": success,
                "messages": [list(message) for message in self._messages.kept],
            },
            "meta": {
                node_id: {
                    "node_id": node_id,
                    "display_node": node_id,
                    "parent_node": None,
                    "real_node_id": node_id,
                }
                for node_id in self._shown
            },
        }

    def tell_finished(self) -> None:
        """Say that the run is over and in the history."""
        self._messages.tell("executing", {"node": None, "prompt_id": self.prompt_id})

    async def _execute_nodes(self) -> bool:
        order = ExecutionOrder(
            self._graph,
            self._outputs,
            is_output=lambda node_id: self._class_of(node_id).output_node,
            is_cached=lambda node_id: self._result(node_id) is not None,
        )
        while (node_id := order.next()) is not None:
            cached = self._result(node_id)
            if cached is not None:
                self._report_cached(node_id, cached)
            elif not await self._execute_node(node_id):
                return False
            order.done(node_id)
        return True

    def _report_cached(self, node_id: str, result: NodeResult) -> None:
        """Show an output that was there before; a prompt without client shows nothing."""
        if self._messages.client_id is not None:
            self._messages.tell_executed(node_id, result.ui)
            if result.ui is not None:
                self._shown[node_id] = result.ui
        self._messages.broadcast("progress_state", self._messages.progress.finish(node_id))

    async def _execute_node(self, node_id: str) -> bool:
        if not self._rendering:
            self._rendering = True
            self._machinery.signals.note_rendered(self.prompt_id)
        node_class = self._class_of(node_id)
        self._messages.broadcast("progress_state", self._messages.progress.start(node_id))
        self._messages.tell_executing(node_id)
        inputs: dict[str, Any] = {}
        try:
            inputs = self._inputs_of(node_id, node_class)
            self._machinery.interruption.check()
            context = RunningNode(self._machinery, self._messages, self._item, node_id)
            context.fail_if_planned(0)
            result = await node_class.run(context, inputs)
        except PromptInterrupted:
            data = self._end_data(node_id)
            self._messages.announce("execution_interrupted", data, to_all=True)
            return False
        except (NodeError, *NODE_ERRORS) as error:
            self._report_error(node_id, inputs, error)
            return False
        self._machinery.cache.put(self._signatures.of(node_id), result)
        self._executed.append(node_id)
        if result.ui is not None:
            faults = self._machinery.faults
            ui = result.ui | ({"values": [math.nan]} if faults.nan_in_ui else {})
            self._shown[node_id] = ui
            size = faults.giant_frame_bytes
            padding = {"padding": [" " * size]} if size else {}
            self._messages.tell_executed(node_id, ui | padding)
        self._messages.broadcast("progress_state", self._messages.progress.finish(node_id))
        return True

    def _report_error(self, node_id: str, inputs: Mapping[str, Any], error: Exception) -> None:
        kind = error.exception_type if isinstance(error, NodeError) else type(error).__name__
        message = f"{error}\n"
        if kind in OUT_OF_MEMORY:
            message += "Not enough GPU memory: try fewer or smaller pictures at a time."
        hidden = self._class_of(node_id).hidden
        data = self._end_data(node_id) | {
            "exception_message": message,
            "exception_type": kind,
            "traceback": traceback.format_tb(error.__traceback__),
            "current_inputs": {name: [_presentable(value)] for name, value in inputs.items()}
            | {name: [self._hidden(node_id, kind)] for name, kind in hidden.items()},
            "current_outputs": list(self._graph),
        }
        self._messages.announce("execution_error", data)

    def _hidden(self, node_id: str, kind: str) -> Any:
        """Return an input the server fills in, as an error message carries it."""
        values = {
            "PROMPT": self._graph,
            "EXTRA_PNGINFO": self._extra_data.get("extra_pnginfo"),
            "UNIQUE_ID": node_id,
        }
        value = values[kind]
        return str(value) if isinstance(value, dict) else value

    def _end_data(self, node_id: str) -> dict[str, Any]:
        return {
            "node_id": node_id,
            "node_type": self._class_of(node_id).name,
            "executed": list(self._executed),
        }

    def _class_of(self, node_id: str) -> NodeClass:
        return self._machinery.classes[self._graph[node_id]["class_type"]]

    def _result(self, node_id: str) -> NodeResult | None:
        return self._machinery.cache.get(self._signatures.of(node_id))

    def _inputs_of(self, node_id: str, node_class: NodeClass) -> dict[str, Any]:
        given = self._graph[node_id]["inputs"]
        inputs = {}
        for spec in node_class.inputs:
            if spec.optional and spec.name not in given:
                continue
            value = given[spec.name]
            if is_link(value):
                source = self._result(value[0])
                if source is None:
                    raise NodeError(f"input {spec.name} has no value", "RuntimeError")
                value = source.outputs[value[1]]
            inputs[spec.name] = value
        return inputs


def _fingerprint(path: str) -> str:
    """Return the hash of a file's content, or its absence."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except (OSError, ValueError):
        return "missing"


def _presentable(value: object) -> Any:
    """Return an input value as an error message may carry it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple) and all(isinstance(each, Image.Image) for each in value):
        return f"images({', '.join(f'{each.width}x{each.height}' for each in value)})"
    return repr(value)
