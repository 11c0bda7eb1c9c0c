"""What is counted as it happens: calls, jobs, attempts, the lag of the event loop."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

from job_service.api.call_kind import SERVICES
from job_service.api.call_observer import CallEnd
from job_service.monitoring.bounded_label import BoundedLabel
from job_service.store.tally import AttemptEnd

#: Checkpoints that have series of their own.
MOST_CHECKPOINTS: Final = 50

_CALL_SECONDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
_ATTEMPT_SECONDS: Final = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600)
_LAG_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class Counted:
    """Counters and histograms in a registry of their own; a Tally of the store."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._calls = Histogram(
            "job_service_rpc_duration_seconds",
            "Calls served, by how long they took. kind: short, held (waits for something to happen)"
            " or transfer (bytes in pieces); code: name of the gRPC status.",
            ("service", "method", "kind", "code"),
            buckets=_CALL_SECONDS,
            registry=registry,
        )
        self._created = Counter("job_service_jobs_created_total", "Jobs stored.", registry=registry)
        self._ended = Counter(
            "job_service_jobs_ended_total",
            "Jobs that came to rest. status: completed, failed or cancelled; error_code: why they"
            " failed, else empty.",
            ("status", "error_code"),
            registry=registry,
        )
        self._attempts = Counter(
            "job_service_attempts_ended_total",
            "Leases that ended. outcome: completed, failed, cancelled, released, lease_expired,"
            " timed_out or superseded; error_code: what went wrong, else empty.",
            ("outcome", "error_code"),
            registry=registry,
        )
        self._leased = Histogram(
            "job_service_lease_duration_seconds",
            "From the lease to its end, whatever end. checkpoint: the first"
            f" {MOST_CHECKPOINTS} by name, then (others).",
            ("checkpoint",),
            buckets=_ATTEMPT_SECONDS,
            registry=registry,
        )
        self._ran = Histogram(
            "job_service_run_duration_seconds",
            "From the begin of the run in ComfyUI to the end of the attempt, uploads included, of"
            " those completed. checkpoint: as for leases.",
            ("checkpoint",),
            buckets=_ATTEMPT_SECONDS,
            registry=registry,
        )
        self._lag = Histogram(
            "job_service_event_loop_lag_seconds",
            "How late the event loop does what is due; looked at once a second.",
            buckets=_LAG_SECONDS,
            registry=registry,
        )
        self._checkpoint = BoundedLabel(MOST_CHECKPOINTS)
        self._calls_of: dict[tuple[str, str], Histogram] = {}

    def call_ended(self, end: CallEnd) -> None:
        """A call has been served."""
        key = end.method, end.code
        calls = self._calls_of.get(key)
        if calls is None:
            service, _, method = end.method.removeprefix(SERVICES).partition("/")
            calls = self._calls_of[key] = self._calls.labels(service, method, end.kind, end.code)
        calls.observe(end.seconds)

    def jobs_created(self, count: int) -> None:
        """So many jobs are new."""
        self._created.inc(count)

    def attempt_ended(self, end: AttemptEnd) -> None:
        """A lease has ended."""
        self._attempts.labels(end.outcome, _short(end.error_code)).inc()
        checkpoint = self._checkpoint(end.checkpoint)
        self._leased.labels(checkpoint).observe(end.leased)
        if end.ran is not None and end.outcome == "completed":
            self._ran.labels(checkpoint).observe(end.ran)

    def jobs_ended(self, status: str, error_code: str, count: int = 1) -> None:
        """So many jobs have come to rest."""
        self._ended.labels(status, _short(error_code)).inc(count)

    def loop_lagged(self, seconds: float) -> None:
        """The event loop was so late."""
        self._lag.observe(seconds)


def _short(error_code: str) -> str:
    return error_code.removeprefix("ERROR_CODE_")
