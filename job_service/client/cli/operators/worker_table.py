"""Workers as a table."""

from collections.abc import Iterable
from datetime import datetime

from generation_jobs.v1.operator_service_pb2 import Worker, WorkerBackend
from rich.table import Table
from rich.text import Text

from job_service.client.cli.figures import age
from job_service.client.cli.tables import plain_table
from job_service.client.cli.terminal_text import one_line


def worker_table(workers: Iterable[Worker], now: datetime) -> Table:
    """One row for each ComfyUI; what concerns the worker stands in its first."""
    table = plain_table(
        "Worker", "State", "Last beat", "Jobs", "ComfyUI", "Version", "Device", "Checkpoint"
    )
    for worker in workers:
        facts = (
            Text(one_line(worker.name)),
            state_text(worker),
            age(worker.last_beat_at, now),
            f"{len(worker.job_ids)}/{worker.slots}",
        )
        backends = worker.backends or [WorkerBackend(name="-")]
        for index, backend in enumerate(backends):
            table.add_row(
                *(facts if index == 0 else [""] * len(facts)),
                *(
                    Text(one_line(said))
                    for said in (
                        backend.name,
                        backend.comfyui_version,
                        backend.device,
                        backend.loaded_checkpoint,
                    )
                ),
            )
    return table


def state_text(worker: Worker) -> Text:
    """Answer "live", "draining" while it has jobs left, "drained" or "gone", in its colour."""
    if not worker.live:
        return Text("gone, drained" if worker.draining else "gone", style="red")
    if worker.draining:
        return Text("draining" if worker.job_ids else "drained", style="yellow")
    return Text("live", style="green")
