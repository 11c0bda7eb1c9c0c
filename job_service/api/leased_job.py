"""A job as a worker gets it to run."""

from generation_jobs.v1 import job_pb2

from job_service.api.encode import job_message
from job_service.jobs import limits
from job_service.store.tables import JobRow


def leased_job_message(row: JobRow) -> job_pb2.GenerationJob:
    """A job with everything that text-to-image needs.

    Jobs that are created here have it all. Those of a former system may lack what that had no
    column for: they run with the defaults, and with their id as the seed, so that every attempt
    makes the same picture.
    """
    job = job_message(row, full=False)
    if row.job_type != "image" or row.workflow is not None:
        return job
    for name, default in (
        ("width", limits.DEFAULT_WIDTH),
        ("height", limits.DEFAULT_HEIGHT),
        ("batch_size", limits.DEFAULT_BATCH_SIZE),
    ):
        if getattr(row, name) is None:
            setattr(job, name, default)
    sampler = job.sampler
    for name, value in (
        ("seed", abs(row.id)),
        ("steps", limits.DEFAULT_STEPS),
        ("cfg", limits.DEFAULT_CFG),
        ("denoise", limits.DEFAULT_DENOISE),
    ):
        if not sampler.HasField(name):  # type: ignore[arg-type]
            setattr(sampler, name, value)
    sampler.sampler_name = sampler.sampler_name or limits.DEFAULT_SAMPLER
    sampler.scheduler = sampler.scheduler or limits.DEFAULT_SCHEDULER
    return job
