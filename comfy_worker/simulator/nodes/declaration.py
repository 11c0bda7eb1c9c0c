"""Node classes as data: what /object_info tells and what validation and execution need."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from comfy_worker.simulator.nodes.context import NodeContext

Choices: TypeAlias = Callable[["Options"], list[str]]


@dataclass(frozen=True, slots=True)
class Options:
    """The option lists that are configuration, as they are right now."""

    checkpoints: tuple[str, ...] = ()
    loras: tuple[str, ...] = ()
    vaes: tuple[str, ...] = ()
    controlnets: tuple[str, ...] = ()
    diffusion_models: tuple[str, ...] = ()
    text_encoders: tuple[str, ...] = ()
    upscale_models: tuple[str, ...] = ()
    input_files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a node class.

    Attributes:
        name: Its name in the graph.
        kind: Its type (INT, STRING, MODEL, …), its fixed choices, or a function giving them.
        config: Range, default and the like, as /object_info shows them; None shows nothing.
        optional: A graph may leave it out.

    """

    name: str
    kind: str | tuple[str, ...] | Choices
    config: Mapping[str, Any] | None = None
    optional: bool = False

    def type_or_choices(self, options: Options) -> str | list[str]:
        """Return the input's type, or the list of values it accepts."""
        if isinstance(self.kind, str):
            return self.kind
        if isinstance(self.kind, tuple):
            return list(self.kind)
        return self.kind(options)

    def info(self, options: Options, *, newer_interface: bool = False) -> list[Any]:
        """Return the input as /object_info shows it."""
        kind = self.type_or_choices(options)
        if newer_interface and isinstance(kind, list):
            config = dict(self.config or {})
            return ["COMBO", config | {"multiselect": False, "options": kind}]
        return [kind] if self.config is None else [kind, dict(self.config)]


@dataclass(frozen=True, slots=True)
class Output:
    """One output slot of a node class."""

    kind: str
    tooltip: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What a node made: one value per output slot, and what it shows (None: nothing)."""

    outputs: tuple[Any, ...] = ()
    ui: dict[str, Any] | None = None


Run: TypeAlias = Callable[[NodeContext, Mapping[str, Any]], Awaitable[NodeResult]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeClass:
    """A node class.

    Attributes:
        name: `class_type` in graphs.
        run: Does the work.
        inputs: All inputs, in order, the required ones first.
        outputs: The output slots.
        hidden: Inputs the server fills in ({name: kind}).
        category: Where user interfaces list it.
        display_name: Its title; None when it declares none.
        description: One sentence on what it does.
        output_node: Whether a prompt may end here.
        python_module: Which module of ComfyUI has it.
        newer_interface: Declared through ComfyUI's newer interface: /object_info shows more.
        file_input: The input that names a file of the input directory: the file must exist, and
            a cached result holds only as long as the file stays the same.

    """

    name: str
    run: Run
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    hidden: Mapping[str, str] = field(default_factory=dict)
    category: str
    display_name: str | None
    description: str = ""
    output_node: bool = False
    python_module: str = "nodes"
    newer_interface: bool = False
    file_input: str | None = None

    def info(self, options: Options) -> dict[str, Any]:
        """Return the class as /object_info shows it (recording object_info)."""
        groups: dict[str, Any] = {"required": self._inputs_info(options, optional=False)}
        optional = self._inputs_info(options, optional=True)
        if optional:
            groups["optional"] = optional
        if self.hidden:
            groups["hidden"] = {
                name: [kind] if self.newer_interface else kind for name, kind in self.hidden.items()
            }
        info: dict[str, Any] = {
            "input": groups,
            "input_order": {group: list(names) for group, names in groups.items()},
            "output": [output.kind for output in self.outputs],
            "output_is_list": [False for _ in self.outputs],
            "output_name": [output.name or output.kind for output in self.outputs],
            "name": self.name,
            "display_name": self.display_name,
            "description": self.description,
            "python_module": self.python_module,
            "category": self.category,
            "output_node": self.output_node,
        }
        if self.newer_interface:
            flags = {"deprecated": False, "experimental": False, "api_node": False}
            tooltips = [output.tooltip for output in self.outputs]
            return info | {"output_tooltips": tooltips, "output_matchtypes": None} | flags
        if any(output.tooltip for output in self.outputs):
            info["output_tooltips"] = [output.tooltip for output in self.outputs]
        return info

    def _inputs_info(self, options: Options, *, optional: bool) -> dict[str, Any]:
        return {
            spec.name: spec.info(options, newer_interface=self.newer_interface)
            for spec in self.inputs
            if spec.optional == optional
        }
