"""Inputs that are used and swept, what node classes take, how long files play.

Revision ID: 0004
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Which jobs refer to an input. Built without keeping anybody from writing jobs; what a build that
# broke off has left is removed first.
JOBS_BY_INPUT = (
    "DROP INDEX CONCURRENTLY IF EXISTS generation_jobs_inputs",
    """
    CREATE INDEX CONCURRENTLY generation_jobs_inputs
        ON generation_jobs USING gin (inputs jsonb_path_ops) WHERE inputs <> '[]'
    """,
)

INPUTS = """
ALTER TABLE job_inputs
    -- uploaded, resolved for a job, or found in use by the sweeper
    ADD COLUMN last_used_at timestamptz NOT NULL DEFAULT now(),
    -- null until the object is completely in the store
    ADD COLUMN stored_at timestamptz,
    -- set when nobody may use it any more: the object goes, then the row
    ADD COLUMN removed_at timestamptz,
    DROP CONSTRAINT job_inputs_user_id_sha256_key;
-- The same content may come again while its former object is being removed.
CREATE UNIQUE INDEX job_inputs_content ON job_inputs (user_id, sha256) WHERE removed_at IS NULL;
CREATE INDEX job_inputs_idle ON job_inputs (last_used_at) WHERE removed_at IS NULL;
CREATE INDEX job_inputs_removed ON job_inputs (id) WHERE removed_at IS NOT NULL;
"""

NODE_SIGNATURES = """
-- What the node classes of a ComfyUI take and give: compressed, once for all ComfyUIs that say the
-- same, and apart from their catalogues because it is large and seldom read.
CREATE TABLE node_signatures (
    digest bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
    content bytea NOT NULL,
    reported_at timestamptz NOT NULL DEFAULT now()
);
-- It is compressed already.
ALTER TABLE node_signatures ALTER COLUMN content SET STORAGE EXTERNAL;

ALTER TABLE backend_catalogues
    ADD COLUMN signatures_digest bytea REFERENCES node_signatures (digest);
CREATE INDEX backend_catalogues_signatures ON backend_catalogues (signatures_digest);
"""

ARTIFACTS = """
ALTER TABLE job_artifacts
    -- how long it plays; null for what does not play
    ADD COLUMN duration_ms bigint CHECK (duration_ms >= 0);
"""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for statement in JOBS_BY_INPUT:
            op.execute(statement)
    for statements in (INPUTS, NODE_SIGNATURES, ARTIFACTS):
        op.execute(statements)


def downgrade() -> None:
    raise RuntimeError("0004 cannot be undone: inputs that are being removed would come back")
