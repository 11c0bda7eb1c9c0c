"""Who must hear that a job has become pending."""

from collections.abc import Hashable

from job_service.events.hub import AdmissionDue, UpkeepDue, WorkAvailable
from job_service.store.tables import JobRow


def pending_topic(row: JobRow) -> Hashable:
    """The topic that wakes whoever takes a pending job its next step."""
    if row.dispatchable:
        return WorkAvailable()
    return AdmissionDue() if row.not_before is None else UpkeepDue()
