"""Statements on workflow templates: every version that was ever stored, by owner and name."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from job_service.jobs.recipe_book import TemplateKey
from job_service.jobs.refusals import Refusal, RefusedError
from job_service.store.database import Database, Row, as_json, statement

# A version is one more than the last of its name, deleted ones included: no number is used twice.
# Two writers that count alike meet at the unique key, and the second inserts nothing.
_ADD: Final = statement("""
INSERT INTO workflow_templates (owner, name, version, description, workflow, parameters)
SELECT CAST(:owner AS uuid), CAST(:name AS varchar), coalesce(max(version), 0) + 1, :description,
    :workflow, CAST(:parameters AS jsonb)
FROM workflow_templates
WHERE owner IS NOT DISTINCT FROM CAST(:owner AS uuid) AND name = :name
HAVING count(*) FILTER (WHERE deleted_at IS NULL) = 0
ON CONFLICT DO NOTHING
RETURNING *
""")

_REVISE: Final = statement("""
INSERT INTO workflow_templates (owner, name, version, description, workflow, parameters)
SELECT CAST(:owner AS uuid), CAST(:name AS varchar), CAST(:version AS integer) + 1, :description,
    :workflow, CAST(:parameters AS jsonb)
FROM workflow_templates
WHERE owner IS NOT DISTINCT FROM CAST(:owner AS uuid) AND name = :name
HAVING max(version) FILTER (WHERE deleted_at IS NULL) = :version
ON CONFLICT DO NOTHING
RETURNING *
""")

_DELETE: Final = statement("""
UPDATE workflow_templates SET deleted_at = now()
WHERE owner IS NOT DISTINCT FROM CAST(:owner AS uuid) AND name = :name AND deleted_at IS NULL
""")

# What a user calls by a name is their own template or, when they have none, everybody's. A version
# that is named is found also when the template is deleted: jobs refer to it.
_FIND: Final = statement("""
SELECT wanted.n, found.*
FROM jsonb_to_recordset(CAST(:wanted AS jsonb)) AS wanted (
    n integer, owner uuid, name text, version integer
)
CROSS JOIN LATERAL (
    SELECT * FROM workflow_templates AS template
    WHERE (template.owner = wanted.owner OR template.owner IS NULL)
        AND template.name = wanted.name
        AND CASE wanted.version
            WHEN 0 THEN template.deleted_at IS NULL ELSE template.version = wanted.version
        END
    ORDER BY template.owner NULLS LAST, template.version DESC
    LIMIT 1
) AS found
""")

_LIST: Final = statement("""
SELECT DISTINCT ON (name) *
FROM workflow_templates
WHERE (owner = CAST(:owner AS uuid) OR owner IS NULL) AND deleted_at IS NULL AND name > :after
ORDER BY name, owner NULLS LAST, version DESC
LIMIT :limit
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateDraft:
    """What a version says. ``parameters``: TemplateParameter messages as JSON objects."""

    name: str
    description: str
    workflow: str
    parameters: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateRow:
    """A stored version. ``owner``: None when it is everybody's."""

    owner: UUID | None
    name: str
    version: int
    description: str
    workflow: str
    parameters: list[dict[str, Any]]
    created_at: datetime


class TemplateStore:
    """Workflow templates in the table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, owner: UUID | None, draft: TemplateDraft) -> TemplateRow:
        """Store the first version of a template. Raises RefusedError: TEMPLATE_EXISTS."""
        row = await self._database.row(_ADD, _parameters(owner, draft))
        if row is None:
            raise RefusedError(
                Refusal.TEMPLATE_EXISTS,
                f"there is a template {draft.name!r} already; UpdateTemplate adds a version to it",
            )
        return _template(row)

    async def revise(
        self, owner: UUID | None, draft: TemplateDraft, version: int
    ) -> TemplateRow | None:
        """Store the version after ``version``; None when that is not the newest (any more)."""
        row = await self._database.row(_REVISE, {**_parameters(owner, draft), "version": version})
        return None if row is None else _template(row)

    async def delete(self, owner: UUID | None, name: str) -> bool:
        """Take a template out of use; whether there was one. Its versions stay for their jobs."""
        return bool(await self._database.run(_DELETE, {"owner": owner, "name": name}))

    async def find(self, keys: Sequence[TemplateKey]) -> list[TemplateRow | None]:
        """What is meant by each of these; None where there is none. One statement."""
        wanted = [
            {"n": n, "owner": key.owner, "name": key.name, "version": key.version}
            for n, key in enumerate(keys)
        ]
        rows = await self._database.rows(_FIND, {"wanted": as_json(wanted)})
        found = {row.n: _template(row) for row in rows}
        return [found.get(n) for n in range(len(keys))]

    async def newest(self, owner: UUID | None, *, after: str, limit: int) -> list[TemplateRow]:
        """The newest versions of what ``owner`` may use, by name."""
        rows = await self._database.rows(_LIST, {"owner": owner, "after": after, "limit": limit})
        return [_template(row) for row in rows]


def _parameters(owner: UUID | None, draft: TemplateDraft) -> dict[str, Any]:
    return {
        "owner": owner,
        "name": draft.name,
        "description": draft.description,
        "workflow": draft.workflow,
        "parameters": as_json(draft.parameters),
    }


def _template(row: Row) -> TemplateRow:
    return TemplateRow(
        owner=row.owner,
        name=row.name,
        version=row.version,
        description=row.description,
        workflow=row.workflow,
        parameters=row.parameters,
        created_at=row.created_at,
    )
