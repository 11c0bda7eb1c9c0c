"""What the benchmarks found, as a table."""

import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was measured, the figure, and how it compares with its baseline."""

    what: str
    figure: str
    ratio: str = ""
    aim: str = ""


@dataclass(slots=True)
class Report:
    """Findings under headings, in the order they came."""

    sections: dict[str, list[Finding]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def add(self, section: str, what: str, figure: str, *, ratio: str = "", aim: str = "") -> None:
        """Take one finding."""
        self.sections.setdefault(section, []).append(Finding(what, figure, ratio, aim))

    def note(self, section: str, text: str) -> None:
        """Say something about how a section was measured."""
        self.notes.setdefault(section, []).append(text)

    def markdown(self) -> str:
        """The report as one writes it down."""
        machine = (
            f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, load "
            f"{os.getloadavg()[0]:.1f}, {platform.system()} {platform.machine()}, "
            f"Python {platform.python_version()}. Baselines are of the same run."
        )
        lines = ["# Benchmarks", "", machine]
        for section, findings in self.sections.items():
            lines += ["", f"## {section}", ""]
            lines += [f"{note}" for note in self.notes.get(section, ())]
            lines += [""] * (section in self.notes)
            lines += _table([("what", "figure", "ratio", "aim"), *map(_cells, findings)])
        return "\n".join(lines) + "\n"

    def write(self, path: Path) -> None:
        """Write it to a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.markdown(), encoding="utf-8")


def _cells(finding: Finding) -> tuple[str, str, str, str]:
    return finding.what, finding.figure, finding.ratio, finding.aim


def _table(rows: list[tuple[str, str, str, str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    return [lines[0], "|-" + "-|-".join("-" * width for width in widths) + "-|", *lines[1:]]
