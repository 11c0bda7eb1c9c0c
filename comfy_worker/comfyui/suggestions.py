"""What a value that ComfyUI refused was probably meant to be. Pure."""

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from comfy_worker.comfyui.errors import InputError

_MOST_SUGGESTIONS: Final = 3
_LEAST_ALIKE: Final = 0.6
_LONGEST_COMPARED: Final = 200
_MOST_COMPARED: Final = 5000
_MODEL_EXTENSION: Final = re.compile(r"\.(?:safetensors|sft|ckpt|pt2?|pth|bin|gguf|onnx)$")

Choices = Callable[[str, str], Sequence[str]]
"""From a node class and the name of an input to the values it takes, none when unknown."""


def with_suggestions(error: InputError, choices: Choices) -> InputError:
    """Add what the refused value is like; ``choices`` is asked where ComfyUI lists none itself."""
    if not error.value:
        return error
    listed = error.choices
    if listed is None:
        listed = tuple(choices(error.node_class, error.input_name))
    alike = _alike(error.value, listed)
    if not alike:
        return replace(error, choices=None)
    named = " or ".join(repr(each) for each in alike)
    return replace(
        error,
        choices=None,
        suggestions=alike,
        message=f"{error.message}; did you mean {named}?",
    )


def _alike(value: str, choices: Sequence[str]) -> tuple[str, ...]:
    """Return the choices most like ``value``; case, folders and extensions count for nothing."""
    by_name: dict[str, str] = {}
    for choice in choices[:_MOST_COMPARED]:
        by_name.setdefault(_essence(choice), choice)
    found = difflib.get_close_matches(
        _essence(value), list(by_name), n=_MOST_SUGGESTIONS, cutoff=_LEAST_ALIKE
    )
    return tuple(by_name[name] for name in found)


def _essence(name: str) -> str:
    file = name.casefold().replace("\\", "/").rpartition("/")[2]
    return _MODEL_EXTENSION.sub("", file)[:_LONGEST_COMPARED]
