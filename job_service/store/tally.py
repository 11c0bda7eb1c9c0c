"""What the statements of this replica have brought about, told to whoever counts it."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """An attempt that has ended, and with it the lease.

    ``outcome`` as in job_attempts, ``status`` that of the job from now on, ``error_code`` a name of
    ErrorCode or empty. ``leased``: seconds since the lease was given; ``ran``: since ComfyUI began,
    None when it did not.
    """

    outcome: str
    status: str
    error_code: str
    checkpoint: str
    leased: float
    ran: float | None


class Tally(Protocol):
    """Counts. Called once the change is committed; must not raise, nor take long."""

    def jobs_created(self, count: int) -> None:
        """So many jobs are new."""

    def attempt_ended(self, end: AttemptEnd) -> None:
        """A lease has ended."""

    def jobs_ended(self, status: str, error_code: str, count: int = 1) -> None:
        """So many jobs have come to rest in this state."""


class Uncounted:
    """A tally that nobody reads."""

    def jobs_created(self, count: int) -> None:
        """Forget it."""

    def attempt_ended(self, end: AttemptEnd) -> None:
        """Forget it."""

    def jobs_ended(self, status: str, error_code: str, count: int = 1) -> None:
        """Forget it."""


#: Has no state, and so does for everybody.
UNCOUNTED: Tally = Uncounted()
