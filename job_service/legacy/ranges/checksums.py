"""Checksums of the former fields, of one range or of many."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Checksum:
    """Of one field: rows that have a value, and the two sums, which must be equal."""

    rows: int
    before: int
    after: int

    def plus(self, other: "Checksum") -> "Checksum":
        """Of both together."""
        return Checksum(
            self.rows + other.rows, self.before + other.before, self.after + other.after
        )


@dataclass(frozen=True, slots=True)
class Checked:
    """What was compared in a range: rows that arrived, by outcome, and each field's checksum."""

    imported: int
    combined: int
    fields: Mapping[str, Checksum]

    @property
    def differing(self) -> Sequence[str]:
        """Fields that are not what they were."""
        return [name for name, sums in self.fields.items() if sums.before != sums.after]


_NOTHING: Final = Checksum(0, 0, 0)


def total(parts: Sequence[Checked]) -> Checked:
    """What was compared in all ranges together."""
    names = dict.fromkeys(name for part in parts for name in part.fields)
    fields = {}
    for name in names:
        sums = _NOTHING
        for part in parts:
            sums = sums.plus(part.fields.get(name, _NOTHING))
        fields[name] = sums
    return Checked(
        sum(part.imported for part in parts), sum(part.combined for part in parts), fields
    )
