"""What is counted as it happens: jobs by how they ended, renders by how long they took."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram

#: Checkpoints that have series of their own; the others share one.
MOST_CHECKPOINTS: Final = 50
OTHERS: Final = "(others)"

_RENDER_SECONDS: Final = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600)
_LAG_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class Counted:
    """Counters and histograms in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._ended = Counter(
            "comfy_worker_jobs_ended_total",
            "Jobs that left this worker. outcome: completed, failed, released, lost (to another"
            " worker, or by its end) or untold (job_service was not reached in time); error_code:"
            " of failed ones, else empty.",
            ("backend", "outcome", "error_code"),
            registry=self.registry,
        )
        self._rendered = Histogram(
            "comfy_worker_run_duration_seconds",
            "How long ComfyUI ran prompts that succeeded. checkpoint: the first"
            f" {MOST_CHECKPOINTS} by name, then {OTHERS}.",
            ("backend", "checkpoint"),
            buckets=_RENDER_SECONDS,
            registry=self.registry,
        )
        self._lag = Histogram(
            "comfy_worker_event_loop_lag_seconds",
            "How late the event loop does what is due; looked at once a second.",
            buckets=_LAG_SECONDS,
            registry=self.registry,
        )
        self._checkpoints: set[str] = set()

    def job_ended(self, backend: str, outcome: str, error_code: str = "") -> None:
        """A job has left the worker; ``error_code`` as in the contract."""
        self._ended.labels(backend, outcome, error_code.removeprefix("ERROR_CODE_")).inc()

    def rendered(self, backend: str, checkpoint: str, seconds: float) -> None:
        """A prompt has succeeded."""
        if len(self._checkpoints) < MOST_CHECKPOINTS:
            self._checkpoints.add(checkpoint)
        known = checkpoint in self._checkpoints
        self._rendered.labels(backend, checkpoint if known else OTHERS).observe(seconds)

    def loop_lagged(self, seconds: float) -> None:
        """The event loop was so late."""
        self._lag.observe(seconds)
