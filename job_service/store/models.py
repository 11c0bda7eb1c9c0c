"""Statements on models: what has ever been offered, and by whom it is now."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from job_service.store.database import Database, Row, as_json, statement

#: Kinds of model, and the list of a catalogue that names them.
MODEL_LISTS: Final[Mapping[str, str]] = {
    "checkpoint": "checkpoints",
    "lora": "loras",
    "vae": "vaes",
    "sampler": "samplers",
    "scheduler": "schedulers",
}
#: What the column holds; a longer name is nothing that a job could name either.
_LONGEST_NAME: Final = 255

_NOTE: Final = statement("""
INSERT INTO models (name, type)
SELECT DISTINCT name, type
FROM jsonb_to_recordset(CAST(:models AS jsonb)) AS reported (name text, type text)
ORDER BY name, type
ON CONFLICT (name, type) DO UPDATE SET updated_at = now()
""")

# A model is active while a worker that is alive offers it.
_LIST: Final = statement("""
WITH offered AS MATERIALIZED (
    SELECT kind.type, model.name,
        array_agg(DISTINCT worker.name ORDER BY worker.name) AS workers
    FROM workers AS worker
    JOIN backend_catalogues AS catalogue ON catalogue.worker = worker.name
    CROSS JOIN jsonb_each_text(CAST(:lists AS jsonb)) AS kind (type, list)
    CROSS JOIN LATERAL jsonb_array_elements_text(catalogue.content -> kind.list) AS model (name)
    WHERE worker.last_beat_at > now() - :ttl
        AND worker.epoch = (SELECT max(epoch) FROM workers AS other WHERE other.name = worker.name)
        AND worker.backends @> jsonb_build_array(jsonb_build_object('name', catalogue.backend))
    GROUP BY kind.type, model.name
)
SELECT model.*, coalesce(offered.workers, '{}') AS workers
FROM models AS model LEFT JOIN offered USING (type, name)
WHERE (CAST(:type AS text) IS NULL OR model.type = :type)
    AND strpos(lower(model.name), lower(:search)) > 0
    AND (CAST(:active AS boolean) IS NULL OR (offered.workers IS NOT NULL) = :active)
    AND (CAST(:worker AS text) IS NULL OR :worker = ANY(offered.workers))
    AND (model.type, model.name) > (CAST(:after_type AS text), CAST(:after_name AS text))
ORDER BY model.type, model.name
LIMIT :limit
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelQuery:
    """Which models; None or empty: not a condition. ``after``: type and name of the last seen."""

    type: str | None
    search: str
    active: bool | None
    worker: str | None
    limit: int
    after: tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """A model, and the workers that offer it now."""

    id: int
    name: str
    type: str
    description: str
    created_at: datetime
    updated_at: datetime
    workers: Sequence[str]


class ModelStore:
    """Models in the table."""

    def __init__(self, database: Database, ttl: timedelta) -> None:
        self._database = database
        self._ttl = ttl

    async def note(self, catalogues: Sequence[Mapping[str, Any]]) -> None:
        """Remember the models that catalogues name."""
        models = [
            {"name": name, "type": kind}
            for catalogue in catalogues
            for kind, names in MODEL_LISTS.items()
            for name in catalogue.get(names, ())
            if len(name) <= _LONGEST_NAME
        ]
        await self._database.run(_NOTE, {"models": as_json(models)})

    async def list_models(self, query: ModelQuery) -> list[ModelRow]:
        """Models by type and name."""
        rows = await self._database.rows(
            _LIST,
            {
                "lists": as_json(MODEL_LISTS),
                "ttl": self._ttl,
                "type": query.type,
                "search": query.search,
                "active": query.active,
                "worker": query.worker,
                "after_type": query.after[0],
                "after_name": query.after[1],
                "limit": query.limit,
            },
        )
        return [_model(row) for row in rows]


def _model(row: Row) -> ModelRow:
    return ModelRow(
        id=row.id,
        name=row.name,
        type=row.type,
        description=row.description,
        created_at=row.created_at,
        updated_at=row.updated_at,
        workers=row.workers,
    )
