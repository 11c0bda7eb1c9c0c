"""When job_service was last heard of."""

import time


class Contact:
    """Noted whenever a heartbeat or a request for jobs is answered."""

    def __init__(self) -> None:
        self._answered: float | None = None
        #: seconds since the epoch
        self.answered_at: float | None = None

    def answered(self) -> None:
        """Note an answer."""
        self._answered = time.monotonic()
        self.answered_at = time.time()

    @property
    def silence(self) -> float | None:
        """Seconds since the last answer, None when there has been none."""
        return None if self._answered is None else time.monotonic() - self._answered
