"""What a job does, without a database: the whole of its life as far as calls can tell."""

from dataclasses import dataclass, field


class RefusedByModelError(Exception):
    """A call that changes nothing; the argument is its reason."""


@dataclass
class ModelJob:
    """One job. ``resting``: it pauses after a failure. ``said``: what ended each attempt."""

    max_attempts: int
    status: str = "pending"
    attempt: int = 0
    charged: int = 0
    forgiven: int = 0
    cancelling: bool = False
    goes: bool = False
    resting: bool = False
    said: dict[int, tuple[str, str]] = field(default_factory=dict)

    def cancel(self, *, goes: bool = False) -> None:
        self._only("pending", "running", "cancelled")
        if self.status == "pending":
            self.status = "cancelled"
        if self.status == "running":
            self.goes |= goes
        self.cancelling = True

    def delete(self, *, cancel: bool) -> bool:
        if cancel and self.status in ("pending", "running"):
            self.cancel(goes=True)
        if self.status == "running" and cancel:
            return False
        self._only("completed", "failed", "cancelled")
        self.status = "gone"
        return True

    def retry(self) -> None:
        self._only("failed", "cancelled")
        self.status = "pending"
        self.charged = self.forgiven = 0
        self.cancelling = self.goes = self.resting = False

    def update(self, max_attempts: int) -> None:
        self._only("pending")
        if max_attempts <= self.charged:
            raise RefusedByModelError("WRONG_STATE")
        self.max_attempts = max_attempts

    def lease(self) -> None:
        self.status = "running"
        self.attempt += 1

    def end(self, attempt: int, call: str, *, retry: bool = True, charge: bool = True,
            forgivable: bool = False, rest: bool = False) -> str:  # fmt: skip
        """An attempt ends: the first word counts, and may be repeated while there is a job."""
        if not self.holds(attempt):
            if self.status == "gone" or self.said.get(attempt, ("", ""))[0] != call:
                raise RefusedByModelError("LEASE_LOST")
            return self.said[attempt][1]
        if call == "complete":
            self.status = "completed"
        else:
            forgiven = charge and forgivable and self.forgiven < 2
            self.forgiven += forgiven
            self.charged += charge and not forgiven
            again = retry and (not charge or self.charged < self.max_attempts)
            self.status = "cancelled" if self.cancelling else "pending" if again else "failed"
        self.resting = rest and self.status == "pending"
        self.said[attempt] = (call, self.status)
        return self._settle()

    def fail_now(self) -> None:
        self._only("pending", "running")
        self.status = "cancelled" if self.cancelling else "failed"
        self._settle()

    def holds(self, attempt: int) -> bool:
        return self.status == "running" and self.attempt == attempt

    def _settle(self) -> str:
        status = self.status
        if self.goes and status != "pending":
            self.status = "gone"
        return status

    def _only(self, *statuses: str) -> None:
        if self.status == "gone":
            raise RefusedByModelError("JOB_NOT_FOUND")
        if self.status not in statuses:
            raise RefusedByModelError("WRONG_STATE")
