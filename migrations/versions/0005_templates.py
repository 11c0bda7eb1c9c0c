"""Templates belong to a user or to everybody; jobs keep the graph their template became.

Revision ID: 0005
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

UPGRADE = """
-- null: everybody's
ALTER TABLE workflow_templates ADD COLUMN owner uuid;
ALTER TABLE workflow_templates DROP CONSTRAINT workflow_templates_pkey;
ALTER TABLE workflow_templates
    ADD CONSTRAINT workflow_templates_key UNIQUE NULLS NOT DISTINCT (owner, name, version);

-- `workflow` is what is run: the client's own graph, or what its template became with the job's
-- values. A template that changes or goes changes no job.
ALTER TABLE generation_jobs DROP CONSTRAINT one_recipe;
ALTER TABLE generation_jobs
    ADD CONSTRAINT template_has_workflow
    CHECK (template_name IS NULL OR workflow IS NOT NULL) NOT VALID;
ALTER TABLE generation_jobs VALIDATE CONSTRAINT template_has_workflow;
"""

DOWNGRADE = """
ALTER TABLE generation_jobs DROP CONSTRAINT template_has_workflow;
UPDATE generation_jobs SET workflow = NULL WHERE template_name IS NOT NULL;
ALTER TABLE generation_jobs
    ADD CONSTRAINT one_recipe CHECK (num_nonnulls(workflow, template_name) <= 1);
DELETE FROM workflow_templates WHERE owner IS NOT NULL;
ALTER TABLE workflow_templates DROP CONSTRAINT workflow_templates_key;
ALTER TABLE workflow_templates DROP COLUMN owner;
ALTER TABLE workflow_templates ADD PRIMARY KEY (name, version);
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
