"""What is read off when somebody asks: slots, jobs, ComfyUIs, and whether the worker is ready."""

from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Final

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from comfy_worker.monitoring.state import WorkerState, problems

_VERSION: Final = version("generation-jobs")


class Sampled(Collector):
    """Gauges of a worker, which ``read`` describes."""

    def __init__(self, read: Callable[[], WorkerState]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Every gauge."""
        state = self._read()
        yield InfoMetricFamily("comfy_worker", "The version that runs.", {"version": _VERSION})
        yield GaugeMetricFamily(
            "comfy_worker_ready",
            "1 when the worker can work: job_service answers, a ComfyUI is healthy, not draining.",
            value=float(not problems(state)),
        )
        if state.answered_at is not None:
            yield GaugeMetricFamily(
                "comfy_worker_last_poll_timestamp_seconds",
                "When job_service last answered a heartbeat or a request for jobs.",
                value=state.answered_at,
            )
        up = _by_backend(
            "comfy_worker_comfyui_up",
            "1 while a ComfyUI can be given prompts: connected, answering, without a device fault.",
        )
        slots = _by_backend("comfy_worker_slots", "Prompts that a ComfyUI may have at once.")
        jobs = GaugeMetricFamily(
            "comfy_worker_jobs",
            "Jobs in hand. stage: rendering (takes a slot) or storing.",
            labels=["backend", "stage"],
        )
        for backend in state.backends:
            up.add_metric([backend.name], float(backend.available))
            slots.add_metric([backend.name], backend.slots)
            jobs.add_metric([backend.name, "rendering"], backend.rendering)
            jobs.add_metric([backend.name, "storing"], backend.storing)
        yield from (up, slots, jobs)


def _by_backend(name: str, says: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, says, labels=["backend"])
