"""Whether this replica can serve, and what is in the way."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from job_service.api.health import Health
from job_service.jobs.refusals import RefusedError
from job_service.store.database import Database
from job_service.store.migrate import Revisions, SchemaState
from job_service.store.schema_revision import schema_revision

#: Seconds for which what was found counts.
_FRESH: Final = 1.0
#: Seconds after which a database that does not answer is as good as none.
_PATIENCE: Final = 2.0


class Readiness:
    """Looks at the database and its schema when asked, whatever the background loops believe."""

    def __init__(self, database: Database, revisions: Revisions, health: Health) -> None:
        self._database = database
        self._revisions = revisions
        self._health = health
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()
        self._problems: Sequence[str] = ("not looked at yet",)

    @property
    def is_ready(self) -> bool:
        """What was found last."""
        return not self._problems and not self._health.is_stopping

    async def problems(self) -> Sequence[str]:
        """What is in the way, a line for each; nothing: it is ready."""
        if self._health.is_stopping:
            return ["draining: the process has been told to stop"]
        async with self._looking:
            if time.monotonic() - self._looked_at >= _FRESH:
                self._problems = await self._look()
                self._looked_at = time.monotonic()
        return self._problems

    async def _look(self) -> Sequence[str]:
        try:
            async with asyncio.timeout(_PATIENCE):
                found = await schema_revision(self._database)
        except TimeoutError:
            return [f"database: no answer within {_PATIENCE:g} seconds"]
        except RefusedError as error:
            return [f"database: {error.message}"]
        state = self._revisions.state_of(found)
        if state in (SchemaState.EMPTY, SchemaState.BEHIND):
            needed = self._revisions.expected
            return [f"schema: {state.value}, not {needed}; run `job-service migrate`"]
        return []
