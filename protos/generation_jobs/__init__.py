"""The contract between clients, job_service and comfy_worker."""
