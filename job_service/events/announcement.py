"""What processes that are no replicas tell those that are."""

from collections.abc import Hashable
from uuid import uuid4

from job_service.events.peer_messages import Leaving, payloads
from job_service.store.database import Database
from job_service.store.notifications import notify


async def announce(database: Database, *topics: Hashable) -> None:
    """Wake every replica by these topics. Raises RefusedError: DATABASE_UNAVAILABLE."""
    # Who leaves with its first word is not counted among the others.
    await notify(database, payloads(uuid4().hex[:8], [*topics, Leaving()]))
