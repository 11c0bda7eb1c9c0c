"""Text that others wrote, made safe for a terminal."""

import unicodedata

# Control characters drive the terminal; bidirectional overrides and isolates reorder what
# stands around them.
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """Answer ``text`` with what could drive a terminal shown as U+FFFD; lines stay lines."""
    return "".join(
        "\ufffd" if drives_terminal(character) else character
        for character in text.replace("\r\n", "\n").expandtabs(4)
    )


def one_line(text: str) -> str:
    """Answer ``text`` printable and on one line, runs of white space as one space."""
    return printable(" ".join(text.split()))


def drives_terminal(character: str) -> bool:
    """Whether a character does more than to be seen; the end of a line does not."""
    if character == "\n":
        return False
    return unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} or character in _BIDI
