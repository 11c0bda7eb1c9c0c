"""Whether a graph may run: the errors of `POST /prompt`, as in recording 05."""

import os
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from comfy_worker.simulator.nodes.declaration import Input, NodeClass, Options
from comfy_worker.simulator.prompt_queue import Graph
from comfy_worker.simulator.storage import Storage

Problem: TypeAlias = dict[str, Any]
"""{type, message, details, extra_info}"""

LONGEST_QUOTED_LIST = 20
ANY = "*"
"""The type that goes with every other."""
_CASTS: Mapping[str, type] = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a validation.

    Attributes:
        error: Why nothing of the graph may run; None when something may.
        outputs: The output nodes that may run, in the graph's order.
        node_errors: {node id: {errors, dependent_outputs, class_type}}; may be there without
            an error, then only the good outputs run.

    """

    error: Problem | None
    outputs: list[str] = field(default_factory=list)
    node_errors: dict[str, Any] = field(default_factory=dict)


def problem(kind: str, message: str, details: str = "", **extra_info: Any) -> Problem:
    """Return one error of a prompt or a node, in the shape clients get it."""
    return {"type": kind, "message": message, "details": details, "extra_info": extra_info}


def validate(
    graph: Graph,
    targets: list[str] | None,
    *,
    classes: Mapping[str, NodeClass],
    options: Options,
    storage: Storage,
) -> Verdict:
    """Validate a graph; numbers in strings and the like are converted in place.

    Args:
        graph: The graph.
        targets: The only output nodes to run (`partial_execution_targets`); None runs all.
        classes: The node classes there are.
        options: The current option lists.
        storage: Where LoadImage looks for its files.

    Raises:
        TypeError, AttributeError, KeyError: The graph is no object of objects. ComfyUI answers
            500 then.

    """
    outputs = []
    for node_id in graph:
        title = f"Node ID '#{node_id}'"
        if "class_type" not in graph[node_id]:
            message = "Cannot execute because a node is missing the class_type property."
            return Verdict(problem("invalid_prompt", message, title))
        name = graph[node_id]["class_type"]
        if name not in classes:
            message = f"Cannot execute because node {name} does not exist."
            return Verdict(problem("invalid_prompt", message, title))
        if classes[name].output_node and (targets is None or node_id in targets):
            outputs.append(node_id)
    if not outputs:
        return Verdict(problem("prompt_no_outputs", "Prompt has no outputs"))
    return _Validation(graph, classes, options, storage).judge(outputs)


class _Validation:
    """One validation: remembers what it found out about each node."""

    def __init__(
        self,
        graph: Graph,
        classes: Mapping[str, NodeClass],
        options: Options,
        storage: Storage,
    ) -> None:
        self._graph = graph
        self._classes = classes
        self._options = options
        self._storage = storage
        self._problems: dict[str, list[Problem]] = {}
        self._valid: dict[str, bool] = {}
        self._open: set[str] = set()

    def judge(self, outputs: list[str]) -> Verdict:
        """Validate from each output backwards."""
        good: list[str] = []
        own_problems: list[Problem] = []
        node_errors: dict[str, Any] = {}
        for output in outputs:
            try:
                valid = self._check_node(output)
            except (LookupError, TypeError, AttributeError, ValueError) as error:
                valid = False
                message = "Exception when validating node"
                self._valid[output] = False
                self._problems[output] = [
                    problem("exception_during_validation", message, str(error), **_tell(error))
                ]
            if valid:
                good.append(output)
                continue
            own_problems += self._problems[output]
            self._collect(output, node_errors)
        if good:
            return Verdict(None, good, node_errors)
        details = "\n".join(f"{each['message']}: {each['details']}" for each in own_problems)
        message = "Prompt outputs failed validation"
        refusal = problem("prompt_outputs_failed_validation", message, details)
        return Verdict(refusal, [], node_errors)

    def _collect(self, output: str, node_errors: dict[str, Any]) -> None:
        """Add what is wrong so far, node by node; a node below a bad one has no error itself."""
        for node_id, problems in self._problems.items():
            if not problems:
                continue
            entry = node_errors.setdefault(
                node_id,
                {
                    "errors": problems,
                    "dependent_outputs": [],
                    "class_type": self._graph[node_id]["class_type"],
                },
            )
            entry["dependent_outputs"].append(output)

    def _check_node(self, node_id: str) -> bool:
        if node_id in self._valid:
            return self._valid[node_id]
        if node_id in self._open:  # a cycle: invalid, and nobody says why (recording 05)
            return False
        self._open.add(node_id)
        inputs = self._graph[node_id]["inputs"]
        node_class = self._classes[self._graph[node_id]["class_type"]]
        problems: list[Problem] = []
        valid = True
        for spec in node_class.inputs:
            if spec.optional and spec.name not in inputs:
                continue
            if spec.name not in inputs:
                message = "Required input is missing"
                extra = {"input_name": spec.name}
                problems.append(problem("required_input_missing", message, spec.name, **extra))
            elif isinstance(inputs[spec.name], list):
                valid &= self._check_link(node_class, spec, inputs[spec.name], problems)
            else:
                self._check_value(node_class, spec, inputs, problems)
        self._check_file(node_class, inputs, problems)
        self._problems[node_id] = problems
        self._valid[node_id] = valid and not problems
        self._open.discard(node_id)
        return self._valid[node_id]

    def _check_link(
        self, node_class: NodeClass, spec: Input, link: list[Any], problems: list[Problem]
    ) -> bool:
        """Check a linked input; False when the node it comes from is invalid."""
        extra = {"input_name": spec.name, "input_config": self._config(node_class, spec)}
        if len(link) != 2:
            message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            problems.append(
                problem("bad_linked_input", message, spec.name, **extra, received_value=link)
            )
            return True
        source, slot = link
        source_class = self._classes[self._graph[source]["class_type"]]
        received = tuple(output.kind for output in source_class.outputs)[slot]
        wanted = spec.type_or_choices(self._options)
        if received != wanted and ANY not in {received, wanted}:
            details = f"{spec.name}, received_type({received}) mismatch input_type({wanted})"
            message = "Return type mismatch between linked nodes"
            extra |= {"received_type": received, "linked_node": link}
            problems.append(problem("return_type_mismatch", message, details, **extra))
            return True
        try:
            return self._check_node(source)
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            message = "Exception when validating inner node"
            extra |= {"exception_message": str(error), **_tell(error), "linked_node": link}
            inner = problem("exception_during_inner_validation", message, str(error), **extra)
            self._valid[source] = False
            self._problems[source] = [inner]
            return False

    def _check_value(
        self, node_class: NodeClass, spec: Input, inputs: dict[str, Any], problems: list[Problem]
    ) -> None:
        kind = spec.type_or_choices(self._options)
        value = inputs[spec.name]
        input_config = self._config(node_class, spec)
        extra: dict[str, Any] = {"input_name": spec.name, "input_config": input_config}
        if isinstance(kind, str) and kind in _CASTS:
            try:
                value = inputs[spec.name] = _CASTS[kind](value)
            except (TypeError, ValueError, OverflowError) as error:
                message = f"Failed to convert an input value to a {kind} value"
                details = f"{spec.name}, {value}, {error}"
                extra |= {"received_value": value, "exception_message": str(error)}
                problems.append(problem("invalid_input_type", message, details, **extra))
                return
        if spec.name == node_class.file_input:  # checked by _check_file instead
            return
        extra |= {"received_value": value}
        config = spec.config or {}
        if "min" in config and value < config["min"]:
            message = f"Value {value} smaller than min of {config['min']}"
            problems.append(problem("value_smaller_than_min", message, spec.name, **extra))
        elif "max" in config and value > config["max"]:
            message = f"Value {value} bigger than max of {config['max']}"
            problems.append(problem("value_bigger_than_max", message, spec.name, **extra))
        elif isinstance(kind, list) and value not in kind:
            quoted = str(kind)
            if len(kind) > LONGEST_QUOTED_LIST:
                quoted = f"(list of length {len(kind)})"
                extra["input_config"] = None
            details = f"{spec.name}: '{value}' not in {quoted}"
            problems.append(problem("value_not_in_list", "Value not in list", details, **extra))

    def _check_file(
        self, node_class: NodeClass, inputs: dict[str, Any], problems: list[Problem]
    ) -> None:
        name = node_class.file_input
        if name is None or name not in inputs or isinstance(inputs[name], list):
            return
        path = self._storage.annotated_path(inputs[name])
        if not os.path.exists(path):  # noqa: PTH110 - False, not an error, for a NUL in it
            message = "Custom validation failed for node"
            details = f"{name} - Invalid image file: {inputs[name]}"
            extra = {"input_name": name}
            problems.append(problem("custom_validation_failed", message, details, **extra))

    def _config(self, node_class: NodeClass, spec: Input) -> list[Any]:
        info = spec.info(self._options, newer_interface=node_class.newer_interface)
        return info if len(info) > 1 else [*info, {}]


def _tell(error: Exception) -> dict[str, Any]:
    return {
        "exception_type": type(error).__name__,
        "traceback": traceback.format_tb(error.__traceback__),
    }
