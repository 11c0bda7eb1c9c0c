"""The templates that every installation has, from the JSON files in ``builtin/``.

A file holds a description, a graph, and the parameters as in ``TemplateParameter``, but with
defaults and choices as JSON values and targets as ``"node.input"``.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final

from job_service.workflows import exact_json
from job_service.workflows.graph import graph_of
from job_service.workflows.parameters import Parameter, ParameterType, Target
from job_service.workflows.template import Template

BUILT_IN_VERSION: Final = 1


@cache
def builtin_templates() -> Mapping[str, Template]:
    """All built-in templates by name, sorted; read once."""
    found = {}
    for file in files(__package__).joinpath("builtin").iterdir():
        name, _, kind = file.name.rpartition(".")
        if kind == "json":
            found[name] = _template(name, exact_json.loads(file.read_text(encoding="utf-8")))
    return MappingProxyType(dict(sorted(found.items())))


def built_in(name: str, version: int) -> Template | None:
    """The built-in template of this name, if it has this version; 0: the newest."""
    return builtin_templates().get(name) if version in (0, BUILT_IN_VERSION) else None


def _template(name: str, document: Any) -> Template:
    return Template(
        name=name,
        graph=graph_of(document["graph"]),
        parameters=tuple(map(_parameter, document["parameters"])),
        description=document["description"],
        version=BUILT_IN_VERSION,
    )


def _parameter(entry: Any) -> Parameter:
    return Parameter(
        name=entry["name"],
        type=ParameterType[entry["type"]],
        required=entry.get("required", False),
        default_json=exact_json.dumps(entry["default"]) if "default" in entry else "",
        minimum=entry.get("minimum"),
        maximum=entry.get("maximum"),
        choices_json=tuple(map(exact_json.dumps, entry.get("choices", ()))),
        targets=tuple(map(_target, entry["targets"])),
        description=entry["description"],
    )


def _target(text: str) -> Target:
    node_id, _, input_name = text.partition(".")
    return Target(node_id, input_name)
