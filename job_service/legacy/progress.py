"""How far an import is: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.text import Text

from job_service.legacy.inspection import Found

#: Seconds between two lines.
_INTERVAL: Final = 5.0


class _RateColumn(ProgressColumn):
    """Rows a second."""

    def render(self, task: Task) -> Text:
        """The rate, once there is one."""
        return Text(f"{task.speed:,.0f} rows/s" if task.speed else "")


class Progress:
    """Counts rows of all tables together, and says the rate at the end."""

    def __init__(self, say: Callable[[str], None], verb: str, found: Found) -> None:
        self._say = say
        self._verb = verb
        self._total = sum(table.rows for table in found.tables.values())
        self._done = 0
        self._began = self._told = time.monotonic()
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        """Show the bar, where there is a terminal."""
        if sys.stderr.isatty():
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                _RateColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.add_task(self._verb, total=self._total)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar away and say what there was."""
        if self._bar is not None:
            self._bar.stop()
        self._say(self._line())

    def advance(self, table: str, rows: int) -> None:
        """``rows`` more of a table are done."""
        self._done += rows
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], advance=rows, description=table)
        elif time.monotonic() - self._told >= _INTERVAL:
            self._told = time.monotonic()
            self._say(self._line())

    def _line(self) -> str:
        seconds = max(time.monotonic() - self._began, 0.001)
        return (
            f"{self._verb} {self._done:,} of {self._total:,} rows, {self._done / seconds:,.0f} a"
            " second"
        )
