"""Deleted jobs are remembered for a while, so that a watch that was interrupted hears of them.

Revision ID: 0002
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TOMBSTONES = """
-- Jobs that were deleted, whoever deleted them, until the upkeep sweeps them.
CREATE TABLE job_tombstones (
    job_id bigint PRIMARY KEY,
    user_id uuid,
    deleted_xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    deleted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX job_tombstones_xid ON job_tombstones (deleted_xid, job_id);
CREATE INDEX job_tombstones_age ON job_tombstones (deleted_at);

-- One row: the youngest deletion that was swept. Who has seen everything before a later transaction
-- finds all deletions since in job_tombstones; no clock is involved.
CREATE TABLE job_tombstone_horizon (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    swept_xid xid8 NOT NULL
);
INSERT INTO job_tombstone_horizon (swept_xid) VALUES ('0');

CREATE FUNCTION generation_jobs_bury() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO job_tombstones (job_id, user_id)
    SELECT id, user_id FROM gone ORDER BY id
    ON CONFLICT (job_id) DO UPDATE SET
        user_id = excluded.user_id,
        deleted_xid = excluded.deleted_xid,
        deleted_at = excluded.deleted_at;
    RETURN NULL;
END $$;

CREATE TRIGGER generation_jobs_bury
    AFTER DELETE ON generation_jobs REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION generation_jobs_bury();
"""

CHANGES = """
-- Changes are read in pages, and one transaction may have changed a million jobs.
DROP INDEX generation_jobs_changed;
CREATE INDEX generation_jobs_changed ON generation_jobs (changed_xid, id);
"""


def upgrade() -> None:
    op.execute(TOMBSTONES)
    op.execute(CHANGES)


def downgrade() -> None:
    op.execute(
        "DROP TRIGGER generation_jobs_bury ON generation_jobs;"
        "DROP FUNCTION generation_jobs_bury;"
        "DROP TABLE job_tombstones, job_tombstone_horizon;"
        "DROP INDEX generation_jobs_changed;"
        "CREATE INDEX generation_jobs_changed ON generation_jobs (changed_xid);"
    )
