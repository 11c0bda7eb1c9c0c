"""The former list of models: what has a column here goes there, the row itself is kept whole."""

from typing import Final

from job_service.legacy.inspection import Table
from job_service.legacy.session import Driver, one
from job_service.store.models import MODEL_LISTS

_TYPES: Final = ", ".join(f"'{kind}'" for kind in MODEL_LISTS)

# Twice the same name and type was impossible there; what workers have reported here counts more.
_IMPORT: Final = """
WITH former AS MATERIALIZED (
    SELECT CAST(t.id AS bigint) AS id, to_jsonb(t) AS content,
        hashtextextended(CAST(t.* AS text), 0) AS checksum
    FROM {table} AS t
), changed AS MATERIALIZED (
    SELECT former.*, former.content ->> 'name' AS name, former.content ->> 'type' AS type
    FROM former LEFT JOIN legacy_models AS before ON before.source_id = former.id
    WHERE before.checksum IS DISTINCT FROM former.checksum
), stored AS (
    INSERT INTO models (name, type, description, is_active)
    SELECT DISTINCT ON (name, type) name, type, coalesce(content ->> 'description', ''),
        content -> 'is_active' IS DISTINCT FROM 'false'
    FROM changed
    WHERE length(name) BETWEEN 1 AND 255 AND type IN ({types})
    ORDER BY name, type, id
    ON CONFLICT (name, type) DO UPDATE
    SET description = CASE models.description WHEN '' THEN excluded.description
        ELSE models.description END
    RETURNING id, name, type
)
INSERT INTO legacy_models (source_id, model_id, checksum, content)
SELECT changed.id, stored.id, changed.checksum, changed.content
FROM changed LEFT JOIN stored USING (name, type)
ON CONFLICT (source_id) DO UPDATE SET
    model_id = excluded.model_id, checksum = excluded.checksum, content = excluded.content
"""

_COUNT: Final = """
SELECT count(*), count(kept.source_id), sum(hashtextextended(CAST(to_jsonb(t) AS text), t.id)),
    sum(hashtextextended(CAST(kept.content AS text), kept.source_id))
FROM {table} AS t LEFT JOIN legacy_models AS kept ON kept.source_id = t.id
"""


async def import_models(driver: Driver, table: Table) -> None:
    """Bring new and changed rows over."""
    await driver.execute(_IMPORT.format(table=table.qualified, types=_TYPES).encode())


async def check_models(driver: Driver, table: Table) -> tuple[int, int, int, int]:
    """Rows there, rows here, and the sums of a hash of both."""
    there, here, before, after = await one(driver, _COUNT.format(table=table.qualified))
    return there, here, int(before or 0), int(after or 0)
