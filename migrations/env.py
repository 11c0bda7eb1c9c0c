"""How Alembic reaches the database: over the connection that ``job_service.store.migrate`` holds.

Revisions are written by hand (``alembic revision -m "…"``): the SQL is the schema, there is no
metadata to compare it with.
"""

from alembic import context
from sqlalchemy import Connection

connection: Connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    version_table=context.config.attributes["version_table"],
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
