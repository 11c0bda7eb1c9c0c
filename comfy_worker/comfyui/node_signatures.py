"""What node classes take and give, out of ``/object_info`` (recorded in object_info.json). Pure."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

_LONGEST_CHOICE_LIST: Final = 5_000
_SECTIONS: Final = ("required", "optional")
_WIDGET_TYPES: Final = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})
_ANY: Final = "*"
# The user interface adds the widget to whole numbers of these names, whatever the class says.
_SEED_NAMES: Final = frozenset({"seed", "noise_seed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSignature:
    """What one input takes.

    ``choice_list`` is the position of its values in ``NodeSignatures.choice_lists``;
    None: they are not listed. ``has_control_widget``: saved workflows have a place for
    what happens to the value after a run. ``is_upload``: it names a file in ComfyUI's
    input folder.
    """

    name: str
    type: str
    required: bool
    minimum: float | None = None
    maximum: float | None = None
    choice_list: int | None = None
    is_widget: bool = False
    has_control_widget: bool = False
    is_upload: bool = False


@dataclass(frozen=True, slots=True)
class NodeSignature:
    """A node class: inputs in ComfyUI's order, required ones first, and types of its outputs."""

    class_type: str
    inputs: tuple[InputSignature, ...]
    output_types: tuple[str, ...]
    is_output_node: bool


@dataclass(frozen=True, slots=True)
class NodeSignatures:
    """All classes of a ComfyUI, and the lists of values that their inputs share."""

    nodes: tuple[NodeSignature, ...] = ()
    choice_lists: tuple[tuple[str, ...], ...] = ()


def node_signatures_of(object_info: Mapping[str, Any]) -> NodeSignatures:
    """Read a whole ``/object_info`` answer; what has not the usual form is left out.

    Lists of more than 5,000 values are left out too, as are such with values that are
    neither text nor number: their inputs then have no ``choice_list``.
    """
    lists: dict[tuple[str, ...], int] = {}
    nodes = tuple(
        _node(class_type, info, lists)
        for class_type, info in object_info.items()
        if is_text(class_type) and isinstance(info, Mapping)
    )
    return NodeSignatures(nodes, tuple(lists))


def is_text(name: str) -> bool:
    """Whether a name is valid Unicode; file names on disk need not be."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name


def _node(
    class_type: str, info: Mapping[str, Any], lists: dict[tuple[str, ...], int]
) -> NodeSignature:
    outputs = info.get("output")
    return NodeSignature(
        class_type,
        tuple(_inputs(info.get("input"), lists)),
        tuple(_type(each) for each in outputs) if isinstance(outputs, list) else (),
        info.get("output_node") is True,
    )


def _inputs(sections: Any, lists: dict[tuple[str, ...], int]) -> Iterator[InputSignature]:
    seen: set[str] = set()
    for section in _SECTIONS:
        inputs = sections.get(section) if isinstance(sections, Mapping) else None
        for name, spec in inputs.items() if isinstance(inputs, Mapping) else ():
            if is_text(name) and name not in seen and isinstance(spec, list) and spec:
                seen.add(name)
                config = spec[1] if len(spec) > 1 and isinstance(spec[1], Mapping) else {}
                yield _input(name, spec[0], config, lists, required=section == "required")


def _input(
    name: str,
    kind: Any,
    config: Mapping[str, Any],
    lists: dict[tuple[str, ...], int],
    *,
    required: bool,
) -> InputSignature:
    type_text = _type(kind)
    is_widget = type_text in _WIDGET_TYPES and not config.get("forceInput")
    choices = _choices(kind, config) if type_text == "COMBO" else None
    by_name = type_text == "INT" and name in _SEED_NAMES
    return InputSignature(
        name=name,
        type=type_text,
        required=required,
        minimum=_number(config.get("min")),
        maximum=_number(config.get("max")),
        choice_list=None if choices is None else lists.setdefault(choices, len(lists)),
        is_widget=is_widget,
        has_control_widget=is_widget and bool(config.get("control_after_generate", by_name)),
        is_upload=config.get("image_folder", "input") == "input"
        and any(key.endswith("_upload") and value is True for key, value in config.items()),
    )


def _type(kind: Any) -> str:
    """The type as text; the older spelling of a COMBO is the list of its values."""
    if isinstance(kind, list):
        return "COMBO"
    return kind if isinstance(kind, str) and kind and is_text(kind) else _ANY


def _choices(kind: Any, config: Mapping[str, Any]) -> tuple[str, ...] | None:
    values = kind if isinstance(kind, list) else config.get("options")
    if not isinstance(values, list) or config.get("multiselect") is True or config.get("remote"):
        return None
    if len(values) > _LONGEST_CHOICE_LIST:
        return None
    if not all(isinstance(value, str | int | float) for value in values):
        return None
    texts = (value if isinstance(value, str) else json.dumps(value) for value in values)
    return tuple(text for text in texts if is_text(text))


def _number(bound: Any) -> float | None:
    if not isinstance(bound, int | float) or isinstance(bound, bool):
        return None
    try:
        number = float(bound)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
