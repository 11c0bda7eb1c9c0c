"""Progress for programs: every update as one line of JSON."""

from types import TracebackType
from typing import Self

from generation_jobs.v1.generation_job_service_pb2 import WatchJobResponse

from job_service.client.cli import console
from job_service.client.errors import JobServiceError


class JsonLines:
    """A ProgressDisplay that prints WatchJobResponse as protobuf JSON."""

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
        """Print it."""
        console.print_json(update, on_one_line=True)

    def interrupted(self, error: JobServiceError) -> None:
        """Say so, but not among the JSON."""
        console.stderr().print("connection lost, trying again")
