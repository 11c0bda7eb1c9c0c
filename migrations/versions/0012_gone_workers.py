"""An index by which removing a worker process finds whether a job is still leased to it.

Revision ID: 0012
"""

from alembic import op

revision = "0012"
down_revision = "0010"
branch_labels = None
depends_on = None

# The foreign key's own check asks for `worker_id` alone, and so cannot use
# `generation_jobs_running`: without this one it reads the whole table. Only running jobs are in it.
# Concurrently, so that the service goes on while it is built on a table of any size; what a build
# that broke off has left is removed first.
LEASED = (
    "DROP INDEX CONCURRENTLY IF EXISTS generation_jobs_worker",
    """
    CREATE INDEX CONCURRENTLY generation_jobs_worker
        ON generation_jobs (worker_id) WHERE worker_id IS NOT NULL
    """,
)


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for statement in LEASED:
            op.execute(statement)


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS generation_jobs_worker")
