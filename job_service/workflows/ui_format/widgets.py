"""Which input each value belongs to that a node was saved with."""

import re
from typing import Any, Final

from job_service.workflows.problems import quoted
from job_service.workflows.signatures import InputSignature, NodeSignature
from job_service.workflows.ui_format.document import SavedNode, cannot

_CONTROL_WORDS: Final = frozenset(
    {"fixed", "increment", "decrement", "randomize", "increment-wrap"}
)
# Values and names of what the user interface adds to nodes with an upload.
_UPLOAD_WORDS: Final = ("image", "video", "audio", "file")
_UPLOAD_WIDGETS: Final = frozenset({"upload", "audioUI"})
# What the user interface works out anew at each run: {day|night}, // and /* comments */.
_DYNAMIC_PROMPT: Final = re.compile(r"\{[^{}]*\|[^{}]*\}|//|/\*")
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S*")


def values_by_input(node: SavedNode, signature: NodeSignature) -> dict[str, Any]:
    """The saved values by the names of their inputs.

    Raises InvalidWorkflowError when the values do not fit the class as it is installed.
    """
    widgets = [each for each in signature.inputs.values() if each.is_widget]
    _refuse_other_widgets(node, [each.name for each in widgets])
    saved = node.widget_values
    if isinstance(saved, dict):
        found = {each.name: saved[each.name] for each in widgets if each.name in saved}
    else:
        found = _in_order(node, widgets, saved)
    for each in widgets:
        if each.name in found:
            _refuse_unfit(node, each, found[each.name])
    return found


def _in_order(node: SavedNode, widgets: list[InputSignature], saved: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    rest = iter(saved)
    for each in widgets:
        try:
            found[each.name] = next(rest)
        except StopIteration:
            if each.required and not _is_linked(node, each.name):
                raise cannot(
                    node.path, f"was saved without a value for {quoted(each.name)}"
                ) from None
            continue
        if each.has_control_widget:
            word = next(rest, None)
            if word is not None and word not in _CONTROL_WORDS:
                raise _other_class(node)
    # Players, previews and buttons of the user interface leave a place without a value behind.
    words = _UPLOAD_WORDS if any(each.is_upload for each in widgets) else ()
    if not all(extra in (None, "") or extra in words for extra in rest):
        raise _other_class(node)
    return found


def _refuse_other_widgets(node: SavedNode, names: list[str]) -> None:
    """Newer files name the widgets, in order; they must be those of the class."""
    rest = iter(names)
    for each in node.inputs:
        if each.is_widget and each.name not in _UPLOAD_WIDGETS and each.name not in rest:
            raise _other_class(node)


def _refuse_unfit(node: SavedNode, expected: InputSignature, value: Any) -> None:
    """A value of another kind tells that the order has changed since the file was saved."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match expected.type:
        case "INT" | "FLOAT":
            fits = is_number
        case "BOOLEAN":
            fits = isinstance(value, bool)
        case "STRING":
            fits = isinstance(value, str)
        case _:
            fits = isinstance(value, str | bool) or is_number
    if not fits and not _is_linked(node, expected.name):
        raise _other_class(node)
    if (
        expected.type == "STRING"
        and isinstance(value, str)
        and _DYNAMIC_PROMPT.search(_ADDRESS.sub("", value))
        and not _is_linked(node, expected.name)
    ):
        raise cannot(
            node.path,
            f"its {quoted(expected.name)} has choices {{a|b}} or comments, which the user interface"
            " works out anew at each run",
        )


def _is_linked(node: SavedNode, name: str) -> bool:
    return any(each.name == name and each.link is not None for each in node.inputs)


def _other_class(node: SavedNode) -> Exception:
    return cannot(
        node.path,
        f"was saved with values that do not fit {node.type} as the connected ComfyUIs have it",
    )
