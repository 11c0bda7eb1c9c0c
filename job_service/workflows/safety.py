"""What a graph may not do: node classes, paths, file name prefixes and addresses.

A prompt is free text and may hold anything; only inputs whose names say that they take a path or an
address are looked at. Names of models may have folders ("sdxl/base.safetensors").
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cached_property, lru_cache
from typing import Any, Final

from job_service.workflows.denied_classes import DENIED_CLASSES
from job_service.workflows.graph import INPUT_SCHEME, Graph, Node
from job_service.workflows.problems import Problem, ProblemList, input_path, node_path, quoted
from job_service.workflows.signatures import NodeSignatures

MAX_PATH: Final = 512
MAX_PREFIX: Final = 200

# Kept in step with what the worker's driver refuses before it submits a graph.
_PATH_INPUTS: Final = re.compile(
    r"(?:image|mask|audio|video|file|upload|filename|filename_prefix|subfolder|path|paths|folder"
    r"|directory|dir|prefix)$|_(?:name|path|paths|file|folder|directory|dir|prefix)\d*$"
    r"|^(?:path|file|folder|directory|dir)_",
    re.IGNORECASE,
)
_PREFIX_INPUTS: Final = re.compile(r"prefix$", re.IGNORECASE)
_ADDRESS_INPUTS: Final = re.compile(
    r"(?:^|_)(?:url|uri|urls|uris|href|endpoint|webhook|host)\d*(?:$|_)", re.IGNORECASE
)
_ADDRESS: Final = re.compile(
    r"\s*(?:[A-Za-z][A-Za-z0-9+.-]*://|(?:data|file|javascript|mailto|smb|blob):)", re.IGNORECASE
)
_LEADS_AWAY: Final = (
    (re.compile(r"\s*[\\/]"), "must not begin with a slash"),
    (re.compile(r"\s*[A-Za-z]:"), "must not name a drive"),
    (re.compile(r"\s*~"), 'must not begin with "~"'),
    (re.compile(r"(?:.*[\\/])?\s*\.\.(?:[\\/\s]|$)", re.DOTALL), 'must not contain ".."'),
    (re.compile(r"[^\\]*\\", re.DOTALL), 'must not contain "\\": folders are separated by "/"'),
    (
        re.compile(r"[^$]*(?:\$[^A-Za-z_{(]+)*\$[A-Za-z_{(]", re.DOTALL),
        "must not name an environment variable",
    ),
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_TOKEN: Final = re.compile(r"%([^%/\\]*)%")
# What ComfyUI fills in: %date:yyyy-MM-dd%, %width%, %KSampler.seed%.
_PREFIX_TOKEN: Final = re.compile(
    r"date(?::[\w .:-]{1,40})?|width|height|year|month|day|hour|minute|second|[^%.]{1,80}\.\w{1,80}"
)


@dataclass(frozen=True)
class SafetyRules:
    """Which node classes may be used, as ``fnmatch`` patterns without regard to case.

    ``allow`` wins over ``deny`` and over the classes that are denied by default. With ``only`` no
    class may be used that matches none of its patterns or of ``allow``.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    denied_by_default: Mapping[str, str] = field(default_factory=lambda: DENIED_CLASSES)

    def objection(self, class_type: str) -> str | None:
        """Why a class may not be used; None: it may."""
        name = class_type.lower()
        if self._allowed(name):
            return None
        if self._denied(name):
            return f"the node class {quoted(class_type)} is not allowed on this installation"
        if self._by_default is not None:
            found = self._by_default.fullmatch(name)
            if found:
                what = self._effects[int(str(found.lastgroup)[1:])]
                return (
                    f"the node class {quoted(class_type)} is not allowed: it {what};"
                    " an operator may allow it"
                )
        if self.only and not self._listed(name):
            return (
                f"the node class {quoted(class_type)} is not among those that this installation"
                " allows"
            )
        return None

    @cached_property
    def _effects(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.denied_by_default.values()))

    @cached_property
    def _by_default(self) -> re.Pattern[str] | None:
        groups = [
            f"(?P<e{number}>{_alternatives(patterns)})"
            for number, effect in enumerate(self._effects)
            if (patterns := [p for p, what in self.denied_by_default.items() if what == effect])
        ]
        return re.compile("|".join(groups)) if groups else None

    def _allowed(self, name: str) -> bool:
        return _matches(name, self.allow)

    def _denied(self, name: str) -> bool:
        return _matches(name, self.deny)

    def _listed(self, name: str) -> bool:
        return _matches(name, self.only)


def safety_problems(
    graph: Graph, rules: SafetyRules, signatures: NodeSignatures | None = None
) -> list[Problem]:
    """Name everything in ``graph`` that is not safe to run.

    A value that a ComfyUI itself lists as a choice of its input is a name of its own and passes,
    also with the backslashes of a ComfyUI on Windows.
    """
    problems = ProblemList()
    for node_id, node in graph.nodes.items():
        objection = rules.objection(node.class_type)
        if objection:
            problems.add(node_path(node_id, "class_type"), objection)
        problems.extend(_input_problems(node_id, node, signatures))
    return list(problems)


def path_objection(value: str) -> str | None:
    """Why a path, relative to one of ComfyUI's folders, may not be used; None: it may."""
    if len(value) > MAX_PATH:
        return f"must have at most {MAX_PATH} characters, has {len(value):,}"
    if _CONTROL.search(value):
        return "must not contain control characters"
    if _ADDRESS.match(value):
        return "must not be an address (URL): upload the file and bind it as an input"
    for leads_away, description in _LEADS_AWAY:
        if leads_away.match(value):
            return f"the path leads out of ComfyUI's own folders: it {description}"
    for token in _TOKEN.finditer(value):
        if not _PREFIX_TOKEN.fullmatch(token[1]):
            return "the path leads out of ComfyUI's own folders: it must not name a variable"
    return None


def prefix_objection(value: str) -> str | None:
    """Why a file name prefix may not be used; None: it may."""
    if len(value) > MAX_PREFIX:
        return f"must have at most {MAX_PREFIX} characters, has {len(value):,}"
    return path_objection(value)


def _input_problems(
    node_id: str, node: Node, signatures: NodeSignatures | None
) -> Iterator[Problem]:
    for name, value in node.inputs.items():
        is_path = bool(_PATH_INPUTS.search(name))
        if not is_path and not _ADDRESS_INPUTS.search(name):
            continue
        signature = signatures.input(node.class_type, name) if signatures else None
        for text in _texts(value):
            if text.startswith(INPUT_SCHEME):
                continue
            if signature and signature.choices and text in signature.choices:
                continue
            objection = _objection(name, text, is_path=is_path)
            if objection:
                yield Problem(input_path(node_id, name), objection)
                break


def _objection(name: str, text: str, *, is_path: bool) -> str | None:
    if _PREFIX_INPUTS.search(name):
        return prefix_objection(text)
    if is_path:
        return path_objection(text)
    if _ADDRESS.match(text):
        return "must not be an address (URL): upload the file and bind it as an input"
    return None


def _texts(value: Any) -> Iterator[str]:
    """The texts in an input's value: itself, or those in a list or object; links have none."""
    if isinstance(value, str):
        yield value
        return
    rest: list[Any] = [value] if isinstance(value, dict) else []
    while rest:
        inner = rest.pop()
        for each in inner.values() if isinstance(inner, dict) else inner:
            if isinstance(each, str):
                yield each
            elif isinstance(each, dict | list):
                rest.append(each)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return bool(patterns) and _compiled(patterns).fullmatch(name) is not None


@lru_cache(maxsize=16)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(_alternatives(patterns))


def _alternatives(patterns: Iterable[str]) -> str:
    return "|".join(translate(pattern.lower()) for pattern in patterns)
