"""docs/metrics.md lists every metric as it is, and its expressions use only those."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from comfy_worker.monitoring import counted as of_worker
from comfy_worker.monitoring import sampled as sampled_of_worker
from comfy_worker.monitoring.state import BackendState, WorkerState
from job_service.api.call_budget import CallBudget
from job_service.api.call_kind import CallKind
from job_service.api.call_observer import CallEnd
from job_service.api.queue_report import QueueState, Waiting
from job_service.jobs.limits import CallLimits
from job_service.monitoring.counted import Counted
from job_service.monitoring.queue_figures import QueueFigures
from job_service.monitoring.sampled import Sampled
from job_service.store.database import Database
from job_service.store.queue_stats import Activity
from job_service.store.tally import AttemptEnd

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "metrics.md"
BEGIN, END = "<!-- metrics -->\n", "<!-- /metrics -->\n"
#: Added to the name of a family by its type.
SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_count", "_sum"),
    "info": ("_info",),
}


async def _read() -> QueueState:
    nothing = Waiting(1, timedelta())
    return QueueState(nothing, nothing, nothing, Activity(0, 0, 0, 0))


async def _of_service() -> list[Collector]:
    counted = Counted()
    method = "/generation_jobs.v1.GenerationJobService/CreateJob"
    counted.call_ended(CallEnd(method, CallKind.SHORT, "OK", 0.1))
    counted.attempt_ended(AttemptEnd("completed", "completed", "", "some", 1.0, 1.0))
    counted.jobs_ended("completed", "")
    figures = QueueFigures(_read, timedelta())
    await figures.refresh()
    database = Database("postgresql+psycopg://nobody@127.0.0.1/none")
    sampled = Sampled(CallBudget(CallLimits()), database, figures, lambda: True)
    return [sampled, counted.registry]


def _of_worker() -> list[Collector]:
    backend = BackendState("gpu", available=True, offered=True, slots=1, rendering=0, storing=0)
    state = WorkerState(0.0, 0.0, draining=False, backends=[backend])
    counted = of_worker.Counted()
    counted.job_ended("gpu", "completed")
    counted.rendered("gpu", "some", 1.0)
    return [sampled_of_worker.Sampled(lambda: state), counted.registry]


@pytest.fixture(scope="module")
def metrics() -> Mapping[str, Metric]:
    """Every metric by its full name: of histograms the family's."""
    collectors = [*asyncio.run(_of_service()), *_of_worker()]
    families = [family for one in collectors for family in one.collect()]
    return {_name(family): family for family in families}


def _name(family: Metric) -> str:
    suffix = SUFFIXES[family.type][0]
    return family.name + ("" if family.type == "histogram" else suffix)


def _labels(family: Metric) -> tuple[str, ...]:
    found = (label for sample in family.samples for label in sample.labels)
    return tuple(label for label in dict.fromkeys(found) if label != "le")


def _table(metrics: Mapping[str, Metric]) -> Iterator[str]:
    yield "| metric | type | labels | |\n|---|---|---|---|\n"
    for name, family in metrics.items():
        labels = ", ".join(f"`{label}`" for label in _labels(family))
        yield f"| `{name}` | {family.type} | {labels} | {family.documentation} |\n"


def test_the_table_lists_every_metric(metrics: Mapping[str, Metric]) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    expected = f"{before}{BEGIN}{''.join(_table(metrics))}{END}{after}"
    assert text == expected, f"should be:\n{expected}"


def test_expressions_use_metrics_and_labels_that_exist(metrics: Mapping[str, Metric]) -> None:
    known = {
        family.name + suffix: {*_labels(family), "le"}
        for family in metrics.values()
        for suffix in SUFFIXES[family.type]
    }
    _, _, rest = DOCUMENT.read_text(encoding="utf-8").partition("## The former thresholds")
    expressions = re.findall(r"\| `(.+)` \|", rest)
    assert len(expressions) >= 5
    for expression in expressions:
        plain = re.sub(r'"[^"]*"', '""', expression)
        used = re.findall(r"((?:job_service|comfy_worker)_\w+)(?:\{([^}]*)\})?", plain)
        assert used, expression
        for name, selected in used:
            assert name in known, f"{name} in {expression}"
            for label in re.findall(r"(\w+)(?:=|!)", selected):
                assert label in known[name], f"{label} in {expression}"


def test_names_are_as_prometheus_wants_them(metrics: Mapping[str, Metric]) -> None:
    for name, family in metrics.items():
        assert re.fullmatch(r"(job_service|comfy_worker)(_[a-z]+)*", name)
        assert name.endswith("_total") == (family.type == "counter"), name
        assert not re.search(r"_(ms|milliseconds|minutes|kb|mb)(_|$)", name)
        if family.type == "histogram":
            assert name.endswith("_seconds")
        assert family.documentation.endswith(".")
