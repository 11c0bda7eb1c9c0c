"""ComfyUI's validation of a prompt, as its answers tell (recordings/05_validation.json).

Independent of the code under test: it reads ``/object_info`` itself, and returns the types of the
errors that ``POST /prompt`` would list. Files in the input folder count as there.
"""

from collections.abc import Iterator
from typing import Any

from job_service.workflows.exact_json import ExactNumber


def comfyui_errors(prompt: dict[str, Any], info: dict[str, Any]) -> list[str]:
    """What ComfyUI would say; empty: it would accept the prompt with all its outputs."""
    for node in prompt.values():
        if node.get("class_type") not in info:
            return ["invalid_prompt"]
    outputs = [key for key, node in prompt.items() if info[node["class_type"]]["output_node"]]
    if not outputs:
        return ["prompt_no_outputs"]
    errors: list[str] = []
    done: set[str] = set()
    rest: list[tuple[str, tuple[str, ...]]] = [(key, (key,)) for key in outputs]
    while rest:
        key, trail = rest.pop()
        if key in done:
            continue
        done.add(key)
        for error, source in _input_errors(prompt, key, info):
            if error:
                errors.append(error)
            elif source in trail:
                errors.append("cycle")
            else:
                rest.append((source, (*trail, source)))
    return errors


def _input_errors(
    prompt: dict[str, Any], key: str, info: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    node = prompt[key]
    sections = info[node["class_type"]]["input"]
    for section in ("required", "optional"):
        for name, (kind, *more) in sections.get(section, {}).items():
            config = more[0] if more else {}
            if name not in node["inputs"]:
                if section == "required":
                    yield "required_input_missing", ""
                continue
            value = node["inputs"][name]
            if isinstance(value, list):
                yield from _link_errors(prompt, value, kind, info)
            else:
                yield from ((error, "") for error in _value_errors(value, kind, config))


def _link_errors(
    prompt: dict[str, Any], link: list[Any], kind: Any, info: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    if len(link) != 2:
        yield "bad_linked_input", ""
        return
    source, slot = link
    outputs = info[prompt[source]["class_type"]]["output"] if source in prompt else []
    if not 0 <= slot < len(outputs):
        yield "exception_during_validation", ""
        return
    given = outputs[slot]
    if given != kind and not set(str(given).split(",")) & set(str(kind).split(",")):
        yield "return_type_mismatch", ""
        return
    yield "", source


def _value_errors(value: Any, kind: Any, config: dict[str, Any]) -> Iterator[str]:
    if isinstance(value, ExactNumber):
        value = float(value)
    try:
        value = {"INT": int, "FLOAT": float, "STRING": str}.get(str(kind), lambda same: same)(value)
    except (ValueError, TypeError):
        yield "invalid_input_type"
        return
    if config.get("image_upload"):
        return
    if "min" in config and value < config["min"]:
        yield "value_smaller_than_min"
    if "max" in config and value > config["max"]:
        yield "value_bigger_than_max"
    choices = kind if isinstance(kind, list) else config.get("options") if kind == "COMBO" else None
    if choices is not None and value not in choices:
        yield "value_not_in_list"
