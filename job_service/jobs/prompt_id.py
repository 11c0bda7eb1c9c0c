"""The id an attempt has as a prompt in ComfyUI."""

from uuid import UUID, uuid5


def prompt_id(installation: UUID, job_id: int, attempt: int) -> str:
    """Id of the prompt of one attempt.

    Anyone who knows the job and the attempt number can name the prompt, also when the worker died
    before it could report anything: that is how a successor finds a render to adopt.
    """
    return str(uuid5(installation, f"{job_id}/{attempt}"))
