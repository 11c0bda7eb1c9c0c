"""The command that imports, as a process of its own, and what it reports."""

import json
import os
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

COMMAND: Final = Path(sysconfig.get_path("scripts")) / "job-service"
_SECONDS: Final = 600


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and its report when it wrote one."""

    code: int
    printed: str
    complaints: str
    report: dict[str, Any] | None

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """The rows that the report lists as of this kind."""
        assert self.report is not None
        return [row for row in self.report["rows"] if row["kind"] == kind]


@dataclass(frozen=True)
class Move:
    """A former installation and where its rows go.

    ``old`` and ``target`` are databases as ``postgresql://…``: the same one when it is done in
    place. ``folder`` holds the artifact store of the new installation.
    """

    old: str
    target: str
    folder: Path

    @property
    def in_place(self) -> bool:
        """Whether the former tables are in our own database."""
        return self.old == self.target

    def importing(self, *arguments: str) -> list[str]:
        """The command line of an import."""
        source = [] if self.in_place else ["--from", self.old]
        return ["import-legacy", *source, *arguments]

    def run(self, *arguments: str, succeeds: bool = True) -> Outcome:
        """Import, and wait for its end."""
        report = self.folder / "report.json"
        report.unlink(missing_ok=True)
        outcome = self.command(*self.importing("--report", str(report), *arguments))
        if succeeds:
            assert outcome.code == 0, outcome.printed + outcome.complaints
        return outcome

    def command(self, *arguments: str) -> Outcome:
        """Run job-service on the target."""
        done = subprocess.run(
            [COMMAND, *arguments],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        report = self.folder / "report.json"
        written = json.loads(report.read_text(encoding="utf-8")) if report.exists() else None
        return Outcome(done.returncode, done.stdout, done.stderr, written)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Begin an import; what it prints goes to the file ``printed``."""
        with self.printed.open("w") as printed:
            return subprocess.Popen(
                [COMMAND, *self.importing(*arguments)],
                env=self.environment(),
                stdout=printed,
                stderr=subprocess.PIPE,
                text=True,
            )

    @property
    def printed(self) -> Path:
        """Where a started import prints to."""
        return self.folder / "printed.txt"

    def environment(self) -> dict[str, str]:
        """Environment of a process of the new installation."""
        kept = {
            name: one for name, one in os.environ.items() if not name.startswith("JOB_SERVICE_")
        }
        return {
            **kept,
            "JOB_SERVICE_DATABASE_URL": self.target,
            "JOB_SERVICE_DATA_DIR": str(self.folder),
        }
