"""Progress of a job: a live bar on a terminal, a line now and then anywhere else."""

from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Protocol, Self

from generation_jobs.v1.generation_job_service_pb2 import WatchJobResponse
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
)
from rich.progress_bar import ProgressBar
from rich.text import Text

from job_service.client.cli.figures import duration
from job_service.client.cli.standing import Standing, standing_of
from job_service.client.errors import JobServiceError


class ProgressDisplay(Protocol):
    """A context manager that shows the updates of one watch."""

    def __enter__(self) -> Self:
        """Start to show."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave what was shown last."""

    def show(self, update: WatchJobResponse) -> None:
        """Show an update that holds a job."""

    def interrupted(self, error: JobServiceError) -> None:
        """Show that the connection is gone and being restored."""


def progress_display(console: Console, job_id: int) -> ProgressDisplay:
    """Choose what suits the place ``console`` writes to."""
    kind: Callable[[Console, int], ProgressDisplay]
    kind = LiveBar if console.is_terminal else PlainLines
    return kind(console, job_id)


class LiveBar:
    """Redraws one line: job, what is being done, bar, percentage, step, time left."""

    def __init__(self, console: Console, job_id: int) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}", markup=False),
            _Bar(bar_width=40, complete_style="cyan"),
            _Percentage(),
            TextColumn("{task.fields[detail]}", markup=False),
            _TimeLeft(),
            console=console,
        )
        self._label = f"Job {job_id}"
        self._task = self._progress.add_task(self._label, total=None, detail="", done_at=None)
        self._shown = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, update: WatchJobResponse) -> None:
        """Redraw."""
        now = standing_of(update)
        self._shown = now.headline
        self._progress.update(
            self._task,
            description=f"{self._label} {now.headline}",
            total=None if now.fraction is None else 1.0,
            completed=now.fraction or 0.0,
            detail=now.detail,
            done_at=None if now.remaining is None else monotonic() + now.remaining,
        )

    def interrupted(self, error: JobServiceError) -> None:
        """Say so beside what was last known."""
        self._progress.update(
            self._task,
            description=f"{self._label} {self._shown} (connection lost, trying again)",
            done_at=None,
        )


class PlainLines:
    """Prints a line when what is done changes, and at each tenth of the way."""

    def __init__(self, console: Console, job_id: int) -> None:
        self._console = console
        self._job_id = job_id
        self._printed: tuple[str, int] | None = None
        self._is_interrupted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Lines stay."""

    def show(self, update: WatchJobResponse) -> None:
        """Print a line if there is news."""
        now = standing_of(update)
        news = (now.headline, int((now.fraction or 0.0) * 10))
        if news != self._printed or self._is_interrupted:
            self._print(_sentence(now))
        self._printed = news
        self._is_interrupted = False

    def interrupted(self, error: JobServiceError) -> None:
        """Print a line once per interruption."""
        if not self._is_interrupted:
            self._print("connection lost, trying again")
        self._is_interrupted = True

    def _print(self, text: str) -> None:
        self._console.print(f"Job {self._job_id}: {text}", markup=False, soft_wrap=True)


def _sentence(now: Standing) -> str:
    percentage = None if now.fraction is None else f"{now.fraction:.0%}"
    left = None if now.remaining is None else f"about {duration(now.remaining)} left"
    return ", ".join(part for part in (now.headline, percentage, now.detail, left) if part)


class _Bar(BarColumn):
    """Nothing while nobody knows how far it is: words need the room, and the spinner turns."""

    def render(self, task: Task) -> ProgressBar:
        bar = super().render(task)
        if task.total is None:
            bar.width = 0
        return bar


class _Percentage(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else f"{task.percentage:>3.0f}%", style="bold")


class _TimeLeft(ProgressColumn):
    """Counts down between updates; the time taken so far where nobody can tell."""

    def render(self, task: Task) -> Text:
        if task.fields["done_at"] is not None and not task.finished:
            left = max(task.fields["done_at"] - monotonic(), 0.0)
            return Text(f"about {duration(left)} left", style="cyan")
        return Text(duration(task.elapsed or 0.0), style="dim")
