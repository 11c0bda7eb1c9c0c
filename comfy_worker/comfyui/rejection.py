"""ComfyUI's answer to a prompt it refuses, wholly or in part (recording 05). Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from comfy_worker.comfyui.catalogue import choices_of
from comfy_worker.comfyui.errors import InputError, PromptRejectedError


def rejection_of(body: Any) -> PromptRejectedError:
    """Build the exception for the body of a 400 answer to ``POST /prompt``; any shape is taken."""
    error = _mapping(body, "error")
    message = _text(error, "message") or "ComfyUI refused the prompt"
    details = _text(error, "details")
    return PromptRejectedError(
        _text(error, "type") or "invalid_prompt",
        f"{message.rstrip('.')}: {details}" if details else message,
        input_errors_of(body.get("node_errors") if isinstance(body, Mapping) else None),
    )


def input_errors_of(node_errors: Any) -> tuple[InputError, ...]:
    """List the single reasons in ``node_errors``, which a 200 answer can carry too."""
    return tuple(_input_errors(node_errors))


def _input_errors(node_errors: Any) -> Iterator[InputError]:
    if not isinstance(node_errors, Mapping):
        return
    for node_id, node in node_errors.items():
        errors = node.get("errors") if isinstance(node, Mapping) else None
        for error in errors if isinstance(errors, list) else []:
            if isinstance(error, Mapping):
                yield _input_error(str(node_id), _text(node, "class_type"), error)


def _input_error(node_id: str, node_class: str, error: Mapping[str, Any]) -> InputError:
    extra = _mapping(error, "extra_info")
    kind, input_name = _text(error, "type"), _text(extra, "input_name")
    message, details = _text(error, "message") or "refused", _text(error, "details")
    value, choices = "", None
    if kind == "value_not_in_list":
        # The details repeat every choice the server has.
        received = extra.get("received_value")
        message = f"{received!r} is not one of the server's choices"
        value = received if isinstance(received, str) else ""
        choices = choices_of(extra.get("input_config"))
    elif details and details != input_name:
        message = f"{message} ({details})"
    return InputError(
        node_id,
        node_class,
        kind,
        input_name,
        message,
        value=value,
        choices=choices,
        traceback=_traceback(extra.get("traceback")),
    )


def _traceback(lines: Any) -> str:
    if not isinstance(lines, list):
        return ""
    return "".join(line for line in lines if isinstance(line, str))


def _mapping(value: Any, key: str) -> Mapping[str, Any]:
    inner = value.get(key) if isinstance(value, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}


def _text(value: Mapping[str, Any], key: str) -> str:
    text = value.get(key)
    return text if isinstance(text, str) else ""
