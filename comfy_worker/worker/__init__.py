"""Taking jobs from job_service, running them on ComfyUI, bringing the results back."""

from comfy_worker.worker.process import run

__all__ = ["run"]
