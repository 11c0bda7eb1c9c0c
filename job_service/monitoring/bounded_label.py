"""A label whose values come from outside, kept from growing without end."""

from typing import Final

#: Stands for every value beyond the first.
OTHERS: Final = "(others)"


class BoundedLabel:
    """Keeps the first ``most`` values it meets; the rest share one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        """The value, or OTHERS."""
        if value in self._known:
            return value
        if len(self._known) >= self._most:
            return OTHERS
        self._known.add(value)
        return value
