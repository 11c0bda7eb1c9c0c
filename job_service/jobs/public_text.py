"""What a worker says of a failure, made fit for the user whose job it was. Pure."""

import re
from typing import Final

# Two components at least: "1/2" and "and/or" are no paths, names of models have no leading slash.
_PATH: Final = re.compile(
    r"(?<![\w.:/\\])(?:~?/[^\s/'\",;:()<>]+(?:/[^\s'\",;:()<>]*)+|[A-Za-z]:[\\/][^\s'\",;:()<>]*"
    r"|\\\\[^\s'\",;:()<>]+)"
)
_TRACEBACK: Final = re.compile(r'Traceback \(most recent call last\)|File "[^"]*", line \d+')


def public(text: str) -> str:
    """The first line of a text with paths hidden; empty when it is a traceback."""
    if _TRACEBACK.search(text):
        return ""
    first, _, _ = text.strip().partition("\n")
    return _PATH.sub("<path>", first.strip())
