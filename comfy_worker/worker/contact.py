"""Whether job_service serves this worker, and when it was last heard of."""

import time
from typing import Final

import structlog

from comfy_worker.outage import Outage
from comfy_worker.worker.service_errors import JobServiceError, ServiceUnavailableError

log: Final = structlog.get_logger(__name__)


class Contact:
    """Told of every heartbeat and request for jobs that is answered, and of every failed call."""

    def __init__(self) -> None:
        self._answered: float | None = None
        #: seconds since the epoch
        self.answered_at: float | None = None
        self._absence = Outage(
            log,
            begins="job_service does not serve, asking until it does",
            lasts="job_service still does not serve",
            ends="job_service serves again",
        )
        self._refusal = Outage(
            log,
            begins="job_service refuses this worker, asking until it does not",
            lasts="job_service still refuses this worker",
            ends="job_service serves this worker again",
        )

    def answered(self) -> None:
        """Note an answer."""
        self._answered = time.monotonic()
        self.answered_at = time.time()
        self._absence.over()
        self._refusal.over()

    def failed(self, error: JobServiceError) -> None:
        """Note a call of any kind that will be repeated."""
        outage = self._absence if isinstance(error, ServiceUnavailableError) else self._refusal
        outage.failed(str(error))

    @property
    def is_lost(self) -> bool:
        """Whether calls have failed since the last answer."""
        return self._absence.is_on or self._refusal.is_on

    @property
    def silence(self) -> float | None:
        """Seconds since the last answer, None when there has been none."""
        return None if self._answered is None else time.monotonic() - self._answered
