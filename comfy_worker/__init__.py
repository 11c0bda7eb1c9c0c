"""comfy_worker: takes generation jobs from job_service and drives ComfyUI servers."""
