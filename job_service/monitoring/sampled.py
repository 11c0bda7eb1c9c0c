"""What is read off when somebody asks: calls in progress, the queue, connections, readiness."""

from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Final

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from job_service.api.call_budget import CallBudget
from job_service.api.call_kind import CallKind
from job_service.api.queue_report import QueueState
from job_service.monitoring.queue_figures import QueueFigures
from job_service.store.database import Database

_VERSION: Final = version("generation-jobs")


class Sampled(Collector):
    """Gauges of one replica, and of the queue that all replicas share.

    ``is_ready`` answers what was found when readiness was last looked at.
    """

    def __init__(
        self,
        budget: CallBudget,
        database: Database,
        figures: QueueFigures,
        is_ready: Callable[[], bool],
    ) -> None:
        self._budget = budget
        self._database = database
        self._figures = figures
        self._is_ready = is_ready

    def collect(self) -> Iterator[Metric]:
        """Every gauge; those of the queue are missing while it cannot be read."""
        yield InfoMetricFamily("job_service", "The version that runs.", {"version": _VERSION})
        yield _gauge(
            "job_service_ready",
            "1 when this replica can serve: database reachable, schema current, not draining.",
            float(self._is_ready()),
        )
        yield self._calls("job_service_calls_in_progress", "Calls being served.", self._served)
        yield self._calls(
            "job_service_calls_limit", "Most calls that are served at once.", self._budget.most
        )
        yield from self._connections()
        if self._figures.state is not None:
            yield from _queue(self._figures.state)

    def _served(self, kind: CallKind) -> int:
        return self._budget.served[kind]

    def _calls(self, name: str, says: str, value: Callable[[CallKind], int]) -> Metric:
        family = GaugeMetricFamily(name, f"{says} kind: short, held or transfer.", labels=["kind"])
        for kind in CallKind:
            family.add_metric([kind], value(kind))
        return family

    def _connections(self) -> Iterator[Metric]:
        use = self._database.connections()
        family = GaugeMetricFamily(
            "job_service_database_connections",
            "Connections to PostgreSQL of this replica. state: in_use or idle.",
            labels=["state"],
        )
        family.add_metric(["in_use"], use.in_use)
        family.add_metric(["idle"], use.idle)
        yield family
        yield _gauge(
            "job_service_database_connections_limit",
            "Most connections in the pool of this replica; one more listens.",
            use.limit,
        )


def _queue(state: QueueState) -> Iterator[Metric]:
    jobs = GaugeMetricFamily(
        "job_service_jobs",
        "Jobs that have not ended, of the whole installation. state: pending (may be leased),"
        " unservable (no live worker offers what they need), scheduled (wait for their time, for"
        " room, or for a pause to end) or running.",
        labels=["state"],
    )
    waits = GaugeMetricFamily(
        "job_service_oldest_wait_seconds",
        "How long the first of the waiting jobs has been there. state: pending, unservable or"
        " scheduled.",
        labels=["state"],
    )
    for name, waiting in (
        ("pending", state.pending),
        ("unservable", state.unservable),
        ("scheduled", state.scheduled),
    ):
        jobs.add_metric([name], waiting.jobs)
        waits.add_metric([name], waiting.oldest.total_seconds())
    jobs.add_metric(["running"], state.activity.running)
    yield jobs
    yield waits
    yield _gauge(
        "job_service_workers",
        "Workers that are alive, of the whole installation.",
        state.activity.live_workers,
    )
    yield _gauge(
        "job_service_worker_slots",
        "Prompts that those workers can have at once.",
        state.activity.slots,
    )


def _gauge(name: str, says: str, value: float) -> Metric:
    return GaugeMetricFamily(name, says, value=value)
