"""An index by which files are found whose retention is over.

Revision ID: 0006
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Concurrently, so that the service goes on while it is built on a table of any size; what a build
# that broke off has left is removed first.
ARTIFACTS_BY_AGE = (
    "DROP INDEX CONCURRENTLY IF EXISTS job_artifacts_age",
    """
    CREATE INDEX CONCURRENTLY job_artifacts_age
        ON job_artifacts (created_at) WHERE job_id IS NOT NULL
    """,
)


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for statement in ARTIFACTS_BY_AGE:
            op.execute(statement)


def downgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS job_artifacts_age")
