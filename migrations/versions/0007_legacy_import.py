"""What was imported from the tables of the former system, and files that stayed where they were.

Revision ID: 0007
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

PROVENANCE = """
-- What became of each row of the former tables.
CREATE TABLE legacy_rows (
    source varchar(63) NOT NULL,
    source_id bigint NOT NULL,
    -- outlives its job, so that one that was deleted does not come back
    job_id bigint NOT NULL,
    -- a hash of the former row as it was imported
    checksum bigint NOT NULL,
    outcome varchar(20) NOT NULL CHECK (outcome IN ('imported', 'combined')),
    -- fields with a value that has no place in its column; the job's params.legacy has it
    adjusted text[],
    -- the former row has changed since, and so has the job: which was left as it is
    conflict boolean NOT NULL DEFAULT false,
    PRIMARY KEY (source, source_id)
);
CREATE INDEX legacy_rows_combined ON legacy_rows (job_id) WHERE outcome = 'combined';

-- Models of the former system, with what has no column here.
CREATE TABLE legacy_models (
    source_id bigint PRIMARY KEY,
    -- null: it is of no type, or has no name, that a model has here
    model_id bigint,
    checksum bigint NOT NULL,
    -- the former row
    content jsonb NOT NULL
);

-- One row once an import has begun: how far it is, and what undoing it needs to know.
CREATE TABLE legacy_import (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    phase varchar(20) NOT NULL CHECK (phase IN ('importing', 'cut over')),
    -- for rows that cannot keep theirs
    next_id bigint NOT NULL,
    facts jsonb NOT NULL DEFAULT '{}'
);
"""

REFERENCES = """
ALTER TABLE job_artifacts
    -- where the former system had the file. Without a SHA-256 it is still there, and not in the
    -- artifact store
    ADD COLUMN external_location text,
    ALTER COLUMN size DROP NOT NULL,
    ALTER COLUMN sha256 DROP NOT NULL,
    DROP CONSTRAINT job_artifacts_check,
    ADD CONSTRAINT thumbnail_has_size CHECK (
        CASE role WHEN 'thumbnail' THEN thumbnail_size > 0 OR external_location IS NOT NULL
        ELSE thumbnail_size = 0 END
    ) NOT VALID,
    ADD CONSTRAINT known_or_external CHECK (
        (size IS NULL) = (sha256 IS NULL) AND (sha256 IS NOT NULL OR external_location IS NOT NULL)
    ) NOT VALID;
ALTER TABLE job_artifacts VALIDATE CONSTRAINT thumbnail_has_size;
ALTER TABLE job_artifacts VALIDATE CONSTRAINT known_or_external;
"""


def upgrade() -> None:
    op.execute(PROVENANCE)
    op.execute(REFERENCES)


def downgrade() -> None:
    raise RuntimeError("0007 cannot be undone: what was imported would be forgotten")
