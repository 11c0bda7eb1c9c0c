"""What has become of a job that somebody has just put into another state."""

from generation_jobs.v1.job_pb2 import GenerationJob, JobStatus

from job_service.client.cli import console
from job_service.client.cli.terminal_text import one_line
from job_service.client.cli.words import word


def print_changed_job(job: GenerationJob, *, json: bool) -> None:
    """Print the job as JSON, or a sentence on the state it is in now."""
    if json:
        console.print_json(job)
    else:
        console.stdout().print(_sentence(job), markup=False, soft_wrap=True)


def _sentence(job: GenerationJob) -> str:
    match job.status:
        case JobStatus.JOB_STATUS_PENDING:
            return f"Job {job.id} is pending again. 'genjobs watch {job.id}' follows it."
        case JobStatus.JOB_STATUS_RUNNING:
            return f"Job {job.id} is running again, on {one_line(job.comfyui_backend)}."
        case JobStatus.JOB_STATUS_FAILED:
            return f"Job {job.id} has failed: {one_line(job.error.message)}"
        case JobStatus.JOB_STATUS_CANCELLED:
            return f"Job {job.id} is cancelled, which had been asked for before."
        case _:
            return f"Job {job.id} is {word(JobStatus, job.status)}."
