"""Indexes for lists and counts by checkpoint, and by a type or backend that few jobs have.

Revision ID: 0003
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Concurrently, so that the service goes on while they are built on a table of any size.
INDEXES = {
    # As before, and so that jobs can be counted by type and backend without being read.
    "generation_jobs_created_kind": """
        ON generation_jobs (created_at DESC, id DESC) INCLUDE (job_type, backend_label)
    """,
    "generation_jobs_checkpoint_created": """
        ON generation_jobs (checkpoint_model, created_at DESC, id DESC)
    """,
    "generation_jobs_rare_type": """
        ON generation_jobs (job_type, created_at DESC, id DESC) WHERE job_type <> 'image'
    """,
    "generation_jobs_rare_backend": """
        ON generation_jobs (backend_label, created_at DESC, id DESC)
        WHERE backend_label <> 'comfyui'
    """,
}


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for name, definition in INDEXES.items():
            # One that an interrupted migration left behind is of no use.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} {definition}")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS generation_jobs_created")


def downgrade() -> None:
    raise RuntimeError("run the older version on the newer schema: it works as it is")
