"""Workers that are to report their catalogues, so that any replica tells them.

Revision ID: 0010
"""

from alembic import op

revision = "0010"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE workers ADD COLUMN catalogue_wanted boolean NOT NULL DEFAULT false")


def downgrade() -> None:
    op.execute("ALTER TABLE workers DROP COLUMN catalogue_wanted")
