"""How a job ended, said once it has."""

from generation_jobs.v1.artifact_pb2 import ArtifactRole
from generation_jobs.v1.job_error_pb2 import ErrorCode, JobError
from generation_jobs.v1.job_pb2 import GenerationJob, JobStatus
from rich.console import Console
from rich.text import Text

from job_service.client.cli.exit_codes import ExitCode
from job_service.client.cli.figures import between
from job_service.client.cli.terminal_text import one_line
from job_service.client.cli.words import STATUS_STYLES, word


def outcome_code(job: GenerationJob) -> ExitCode:
    """Answer the exit code for a job that has ended."""
    completed = job.status == JobStatus.JOB_STATUS_COMPLETED
    return ExitCode.OK if completed else ExitCode.JOB_NOT_COMPLETED


def print_outcome(console: Console, job: GenerationJob) -> None:
    """Say how the job ended, and why if it was not as wished."""
    line = Text(f"Job {job.id} ")
    line.append(word(JobStatus, job.status), style=STATUS_STYLES.get(job.status, ""))
    if job.HasField("started_at") and job.HasField("completed_at"):
        line.append(f" in {between(job.started_at, job.completed_at)}")
    if job.status == JobStatus.JOB_STATUS_COMPLETED:
        outputs = sum(file.role == ArtifactRole.ARTIFACT_ROLE_OUTPUT for file in job.artifacts)
        line.append(f", {outputs} file{'' if outputs == 1 else 's'}")
    if job.cancel_reason:
        line.append(f": {one_line(job.cancel_reason)}")
    console.print(line, soft_wrap=True)
    if job.status == JobStatus.JOB_STATUS_FAILED:
        for text in error_lines(job.error):
            console.print(Text(text), soft_wrap=True)


def error_lines(error: JobError) -> list[str]:
    """Answer what went wrong, where, and what can be done about it."""
    lines = [f"  {one_line(error.message)} ({word(ErrorCode, error.code)})"]
    if error.node_id or error.node_type:
        lines.append(f"  at node {one_line(error.node_id)} {one_line(error.node_type)}".rstrip())
    lines += [
        f"  {one_line(wrong.node_type or wrong.node_id)}.{one_line(wrong.input_name)}: "
        f"{one_line(wrong.message)}"
        for wrong in error.node_input_errors
    ]
    if error.attempts_exhausted:
        lines.append("  all attempts are used up")
    lines += [f"  - {one_line(suggestion)}" for suggestion in error.recovery_suggestions]
    return lines
