"""What a PostgreSQL is, and what its user may do there."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import text

from job_service.store.migrate import connected

#: Major version.
OLDEST_POSTGRESQL: Final = 15

# Nothing is assumed to exist: an empty database has no table yet.
_FACTS: Final = text("""
SELECT current_setting('server_version_num')::integer / 10000 AS version,
    pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean AS read_only,
    current_user AS user_name,
    -- each by itself: of a list, one is enough
    (
        SELECT bool_and(coalesce(
            has_table_privilege(to_regclass('generation_jobs'), privilege), true
        ))
        FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
    ) AS may_write,
    current_setting('max_connections')::integer AS max_connections,
    current_setting('max_connections')::integer
        - current_setting('superuser_reserved_connections')::integer
        - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')
        AS connections_left
""")


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """``connections_left``: besides those that are open now and those kept for superusers."""

    version: int
    read_only: bool
    user: str
    may_write: bool
    max_connections: int
    connections_left: int


def server_facts(database_url: str) -> ServerFacts:
    """Look. Raises MigrationError when the database cannot be reached."""
    with connected(database_url) as connection:
        row = connection.execute(_FACTS).one()
    return ServerFacts(
        version=row.version,
        read_only=row.read_only,
        user=row.user_name,
        may_write=row.may_write,
        max_connections=row.max_connections,
        connections_left=row.connections_left,
    )
