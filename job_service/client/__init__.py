"""Typed async client of GenerationJobService and OperatorService, and ``genjobs`` built on it.

It knows the contract and nothing else of job_service, so it can be copied out.
"""

from job_service.client.channel import CredentialsError, Tls
from job_service.client.client import JobServiceClient, new_request_id
from job_service.client.errors import JobServiceError, Violation
from job_service.client.operators import OperatorClient

__all__ = [
    "CredentialsError",
    "JobServiceClient",
    "JobServiceError",
    "OperatorClient",
    "Tls",
    "Violation",
    "new_request_id",
]
