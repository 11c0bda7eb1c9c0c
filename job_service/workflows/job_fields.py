"""The fields of a job that template parameters are named for."""

from typing import Final

from job_service.workflows.parameters import ParameterType

FIELD_PATHS: Final = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "checkpoint_model": "checkpoint_model",
    "width": "width",
    "height": "height",
    "batch_size": "batch_size",
    "seed": "sampler.seed",
    "steps": "sampler.steps",
    "cfg": "sampler.cfg",
    "sampler_name": "sampler.sampler_name",
    "scheduler": "sampler.scheduler",
    "denoise": "sampler.denoise",
}
"""Parameter name → path of the field in GenerationJob (the comment on TemplateRef)."""

_TEXT: Final = frozenset({ParameterType.STRING})
_NAME: Final = frozenset({ParameterType.CHOICE, ParameterType.STRING})
_WHOLE: Final = frozenset({ParameterType.INTEGER})
_NUMBER: Final = frozenset({ParameterType.NUMBER})

FIELD_TYPES: Final = {
    "prompt": _TEXT,
    "negative_prompt": _TEXT,
    "checkpoint_model": _NAME,
    "width": _WHOLE,
    "height": _WHOLE,
    "batch_size": _WHOLE,
    "seed": frozenset({ParameterType.SEED}),
    "steps": _WHOLE,
    "cfg": _NUMBER,
    "sampler_name": _NAME,
    "scheduler": _NAME,
    "denoise": _NUMBER,
}
"""Parameter name → types that can take the field's value."""

ALWAYS_GIVEN: Final = frozenset({"prompt"})
"""Fields that every job must have: a template without a parameter for them ignores them."""
