"""What is wrong with a workflow, and where."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rapidfuzz import fuzz, process, utils

MAX_PROBLEMS: Final = 100
_LONGEST_NAME: Final = 63
_MOST_COMPARED: Final = 5_000
_MOST_SUGGESTED: Final = 3
# How alike, 0 to 100, a word must be to be suggested.
_ALIKE: Final = 60
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    ``path`` leads to it inside the document, for example ``nodes["12"].inputs.seed``; empty: the
    document as a whole.
    """

    path: str
    description: str

    def under(self, field: str) -> "Problem":
        """The same problem, seen from outside the ``field`` that holds the document."""
        joint = "." if self.path and not self.path.startswith("[") else ""
        return Problem(f"{field}{joint}{self.path}", self.description)

    def __str__(self) -> str:
        return f"{self.path}: {self.description}" if self.path else self.description


class InvalidWorkflowError(ValueError):
    """A document that cannot be a job's graph; ``problems`` has at least one entry."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(map(str, problems[:3])))
        self.problems = tuple(problems)


class ProblemList:
    """Collects problems; keeps the first 100."""

    def __init__(self, problems: Iterable[Problem] = ()) -> None:
        self._problems: list[Problem] = []
        self.extend(problems)

    def __len__(self) -> int:
        return len(self._problems)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self._problems)

    def add(self, path: str, description: str) -> None:
        """Note one problem."""
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(Problem(path, description))

    def extend(self, problems: Iterable[Problem]) -> None:
        """Note several."""
        for problem in problems:
            if len(self._problems) >= MAX_PROBLEMS:
                break
            self._problems.append(problem)

    def raise_if_any(self) -> None:
        """Raise InvalidWorkflowError when anything was noted."""
        if self._problems:
            raise InvalidWorkflowError(self._problems)


def path_of(*keys: str | int) -> str:
    """Write a path: ``path_of("nodes", "12", "inputs", "seed")`` is ``nodes.12.inputs.seed``.

    Keys that are no plain names are quoted, long ones are cut.
    """
    path = ""
    for key in keys:
        if isinstance(key, int):
            path += f"[{key}]"
        elif _PLAIN_NAME.fullmatch(key):
            path += f".{key}" if path else key
        else:
            path += f"[{quoted(key)}]"
    return path


def node_path(node_id: str, *keys: str | int) -> str:
    """The path of a node of a graph, or of something in it: ``nodes["12"].inputs.seed``."""
    inside = path_of(*keys)
    joint = "." if inside and not inside.startswith("[") else ""
    return f"nodes[{quoted(node_id)}]{joint}{inside}"


def input_path(node_id: str, name: str) -> str:
    """The path of a node's input."""
    return node_path(node_id, "inputs", name)


def quoted(text: str) -> str:
    """A name as it is shown to people: in double quotes, cut after 63 characters."""
    shown = text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}…"
    readable = "".join(each if each.isprintable() else "?" for each in shown)
    return '"' + readable.replace('"', '\\"') + '"'


def suggestion(word: str, known: Sequence[str]) -> str:
    """``; did you mean "a" or "b"?`` for the known words most like ``word``, or nothing.

    Looks at 5,000 words at most, which takes about a millisecond.
    """
    found = process.extract(
        word[:255],
        known[:_MOST_COMPARED],
        scorer=fuzz.ratio,
        processor=utils.default_process,
        limit=_MOST_SUGGESTED,
        score_cutoff=_ALIKE,
    )
    shown = " or ".join(quoted(near) for near, _, _ in found)
    return f"; did you mean {shown}?" if shown else ""
