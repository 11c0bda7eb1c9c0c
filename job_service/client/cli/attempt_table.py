"""The attempts of a job as a table."""

from collections.abc import Iterable

from generation_jobs.v1.attempt_pb2 import Attempt, AttemptOutcome
from generation_jobs.v1.job_error_pb2 import ErrorCode
from rich.table import Table
from rich.text import Text

from job_service.client.cli.figures import between, local_time
from job_service.client.cli.tables import plain_table
from job_service.client.cli.terminal_text import one_line
from job_service.client.cli.words import word


def attempt_table(attempts: Iterable[Attempt], title: str = "") -> Table:
    """One row for each attempt."""
    table = plain_table(
        "#", "Backend", "Leased", "Outcome", "Charged", "Took", "Error", title=title
    )
    for attempt in attempts:
        started = attempt.started_at if attempt.HasField("started_at") else attempt.leased_at
        ended = attempt.HasField("ended_at")
        table.add_row(
            str(attempt.attempt),
            Text(one_line(attempt.comfyui_backend or attempt.worker)),
            local_time(attempt.leased_at),
            word(AttemptOutcome, attempt.outcome) if ended else "running",
            ("yes" if attempt.charged else "no") if ended else "",
            between(started, attempt.ended_at) if ended else "",
            word(ErrorCode, attempt.error.code) if attempt.HasField("error") else "",
        )
    return table
