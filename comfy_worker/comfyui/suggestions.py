"""What a value that ComfyUI refused was probably meant to be. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from rapidfuzz import fuzz, process, utils

from comfy_worker.comfyui.errors import InputError

_MOST_SUGGESTIONS: Final = 3
_LEAST_ALIKE: Final = 60
"""Of 100."""

Choices: TypeAlias = Callable[[str, str], Sequence[str]]
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
    """Return the choices most like ``value``, most alike first."""
    found = process.extract(
        _folded(value),
        [_folded(choice) for choice in choices],
        scorer=fuzz.ratio,
        processor=None,
        limit=_MOST_SUGGESTIONS,
        score_cutoff=_LEAST_ALIKE,
    )
    return tuple(choices[index] for _, _, index in found)


def _folded(name: str) -> str:
    """What two names are compared by: neither folders, the file's type, case nor punctuation."""
    file = name.replace("\\", "/").rpartition("/")[2]
    stem, dot, kind = file.rpartition(".")
    return utils.default_process(stem if dot and kind.isalpha() else file)
