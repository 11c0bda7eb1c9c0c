"""Tokens by which callers are known.

Revision ID: 0008
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

UPGRADE = """
-- A row stays when its token is revoked, so that its holder can be told, and a name in an old log
-- line can be looked up.
CREATE TABLE access_tokens (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name varchar(63) NOT NULL CHECK (name ~ '^[A-Za-z0-9._-]+$'),
    -- SHA-256 of the token, which itself is kept nowhere
    digest bytea NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
    role varchar(16) NOT NULL CHECK (role IN ('client', 'gateway', 'worker', 'admin')),
    user_id uuid,
    -- the only name that the worker may use; null: any
    worker varchar(63),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    -- to within some minutes
    last_used_at timestamptz,
    CONSTRAINT clients_have_a_user CHECK (role <> 'client' OR user_id IS NOT NULL),
    CONSTRAINT others_have_none CHECK (role IN ('client', 'admin') OR user_id IS NULL),
    CONSTRAINT workers_alone_are_bound CHECK (role = 'worker' OR worker IS NULL)
);
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute("DROP TABLE access_tokens")
