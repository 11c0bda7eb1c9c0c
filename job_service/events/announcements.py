"""Who must hear that a job has become pending."""

from collections.abc import Hashable

from job_service.events.hub import AdmissionDue, UpkeepDue, WorkAvailable
from job_service.store.tables import JobRow


def pending_topics(row: JobRow) -> set[Hashable]:
    """The topics that wake whoever takes a pending job its next step, or lets it expire."""
    topics: set[Hashable] = set()
    if row.dispatchable:
        topics.add(WorkAvailable(row.route_key))
    elif row.not_before is None:
        topics.add(AdmissionDue())
    if row.not_before is not None or row.expires_at is not None:
        topics.add(UpkeepDue())
    return topics
