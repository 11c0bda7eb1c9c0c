"""What there is of the former system in a database: read from its catalogue, nothing changed."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from job_service.legacy import former
from job_service.legacy.session import Driver, ImportFailedError, one, statements
from job_service.store.database import Row, statement
from job_service.store.migrate import VERSION_TABLE

#: Where the former tables are kept after the cutover.
KEPT_SCHEMA: Final = "legacy"

# The table that unqualified names mean, or the one in a given schema.
_TABLES: Final = statement("""
SELECT relation.relname AS name, namespace.nspname AS schema,
    CAST(relation.oid AS bigint) AS oid, relation.relkind AS kind
FROM pg_class AS relation JOIN pg_namespace AS namespace ON namespace.oid = relation.relnamespace
WHERE relation.relname = ANY(:names) AND relation.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND CASE WHEN CAST(:schema AS text) IS NULL
        THEN relation.oid = to_regclass(quote_ident(relation.relname))
        ELSE namespace.nspname = :schema END
""")

_COLUMNS: Final = statement("""
SELECT attname AS name, format_type(atttypid, atttypmod) AS type, attidentity <> '' AS identity,
    pg_get_serial_sequence(format('%I.%I', CAST(:schema AS text), CAST(:name AS text)), attname)
        AS sequence
FROM pg_attribute
WHERE attrelid = CAST(:oid AS oid) AND attnum > 0 AND NOT attisdropped
ORDER BY attnum
""")

_UNIQUE_ID: Final = statement("""
SELECT EXISTS (
    SELECT FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
    WHERE indrelid = CAST(:oid AS oid) AND attname = 'id' AND attnotnull
        AND indisunique AND indisvalid AND indnkeyatts = 1 AND indpred IS NULL
) AS unique
""")

_REFERENCES: Final = statement("""
SELECT CAST(foreign_key.conrelid AS regclass)::text AS referring, foreign_key.conname AS name,
    pg_get_constraintdef(foreign_key.oid) AS definition, foreign_key.convalidated AS valid,
    CAST(foreign_key.confrelid AS bigint) AS referred, referring.attname AS column
FROM pg_constraint AS foreign_key
JOIN pg_attribute AS referring
    ON referring.attrelid = foreign_key.conrelid AND referring.attnum = foreign_key.conkey[1]
WHERE foreign_key.contype = 'f' AND foreign_key.confrelid = ANY(CAST(:oids AS oid[]))
    AND foreign_key.conrelid <> ALL(CAST(:oids AS oid[])) AND foreign_key.conparentid = 0
ORDER BY 1, 2
""")

_SEARCH: Final = statement("SELECT set_config('search_path', :path, false)")

_READERS: Final = statement("""
SELECT DISTINCT CAST(rule.ev_class AS regclass)::text AS reader
FROM pg_depend AS dependency JOIN pg_rewrite AS rule ON rule.oid = dependency.objid
WHERE dependency.classid = CAST('pg_rewrite' AS regclass)
    AND dependency.refclassid = CAST('pg_class' AS regclass)
    AND dependency.refobjid = ANY(CAST(:oids AS oid[])) AND rule.ev_class <> dependency.refobjid
ORDER BY 1
""")


@dataclass(frozen=True, slots=True)
class Table:
    """A former table. ``columns``: name → type, as PostgreSQL writes it.

    ``ids``: serial, identity or plain. ``next_id``: what its sequence gives next, if it has one.
    """

    name: str
    schema: str
    oid: int
    columns: Mapping[str, str]
    ids: str
    rows: int
    max_id: int | None
    next_id: int | None

    @property
    def qualified(self) -> str:
        """Its name as SQL takes it anywhere."""
        return f'"{self.schema}"."{self.name}"'

    @property
    def extra_columns(self) -> list[str]:
        """Columns that nobody knows."""
        return [name for name in self.columns if name not in (*former.FIELD_NAMES, "id")]


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key on a former table. ``definition``: as in ALTER TABLE … ADD CONSTRAINT.

    ``referred``: oid of the table that ``column`` of ``table`` refers to.
    """

    table: str
    constraint: str
    definition: str
    valid: bool
    referred: int
    column: str


@dataclass(frozen=True, slots=True)
class Found:
    """What there is of the former system."""

    tables: Mapping[str, Table]
    models: Table | None
    references: Sequence[Reference]
    readers: Sequence[str]

    @property
    def schema(self) -> str:
        """Where the tables are."""
        return next(iter(self.tables.values())).schema

    @property
    def state(self) -> str:
        """A, B or C; mixture when columns or tables are not those of any."""
        jobs, requests = self.tables.get(former.JOBS), self.tables.get(former.REQUESTS)
        if jobs is None or (
            requests is not None and set(requests.columns) != former.REQUEST_COLUMNS
        ):
            return "mixture"
        columns = set(jobs.columns)
        if columns == former.JOB_COLUMNS["A"] and requests is not None:
            return "A"
        if columns == former.JOB_COLUMNS["B"]:
            return "C" if requests is None else "B"
        return "mixture"

    def missing_columns(self, table: Table) -> list[str]:
        """Columns that such a table had in the state that is nearest."""
        if table.name == former.REQUESTS:
            expected = former.REQUEST_COLUMNS
        else:
            kind = "A" if {"parameters", "result_content_id"} & set(table.columns) else "B"
            expected = former.JOB_COLUMNS[kind]
        return sorted(expected - set(table.columns))

    @property
    def max_id(self) -> int:
        """The highest id of a former job that was ever given, as far as is known."""
        jobs = self.tables.get(former.JOBS)
        return 0 if jobs is None else max(jobs.max_id or 0, (jobs.next_id or 1) - 1)


async def inspect(driver: Driver, schema: str | None = None) -> Found | None:
    """What there is of the former system; None: nothing.

    ``schema``: where to look; by default where unqualified names lead. A ``generation_jobs`` of
    this service is none of the former tables. Raises ImportFailedError for what cannot be read as
    a former table.
    """
    sql = statements(driver)
    names = [*former.JOB_TABLES, former.MODELS]
    rows = {row.name: row for row in await sql.rows(_TABLES, {"names": names, "schema": schema})}
    if schema is not None:  # the list of models never moves
        beside = {"names": [former.MODELS], "schema": None}
        rows |= {row.name: row for row in await sql.rows(_TABLES, beside)}
    tables: dict[str, Table] = {}
    for name in former.JOB_TABLES:
        if name in rows:
            table = await _table(driver, rows[name])
            if not _is_ours(table):
                tables[name] = table
    if not tables:
        return None
    models = await _table(driver, rows[former.MODELS]) if former.MODELS in rows else None
    schemas = {table.schema for table in tables.values()}
    if len(schemas) > 1:
        raise ImportFailedError(
            f"the former tables are in different schemas ({', '.join(sorted(schemas))}): "
            "move them into one"
        )
    oids = [table.oid for table in tables.values()]
    references = await references_to(driver, oids)
    async with _qualified_names(driver):
        readers = [row.reader for row in await sql.rows(_READERS, {"oids": oids})]
    return Found(tables, models, references, readers)


async def column_names(driver: Driver, table: Table) -> list[str]:
    """The columns that a table has now."""
    rows = await statements(driver).rows(
        _COLUMNS, {"oid": table.oid, "schema": table.schema, "name": table.name}
    )
    return [row.name for row in rows]


async def references_to(driver: Driver, oids: Sequence[int]) -> list[Reference]:
    """Foreign keys that other tables than these have on them, with the names' schemas."""
    async with _qualified_names(driver):
        return [
            Reference(*row)
            for row in await statements(driver).rows(_REFERENCES, {"oids": list(oids)})
        ]


@asynccontextmanager
async def _qualified_names(driver: Driver) -> AsyncIterator[None]:
    """Names are told with their schemas while no schema is searched."""
    sql = statements(driver)
    (searched,) = await one(driver, "SELECT current_setting('search_path')")
    await sql.run(_SEARCH, {"path": "pg_catalog"})
    yield
    await sql.run(_SEARCH, {"path": searched})


async def _table(driver: Driver, row: Row) -> Table:
    if row.kind not in ("r", "p"):
        raise ImportFailedError(f"{row.schema}.{row.name} is no table")
    sql = statements(driver)
    columns = await sql.rows(_COLUMNS, {"oid": row.oid, "schema": row.schema, "name": row.name})
    types = {column.name: column.type for column in columns}
    ids = next((column for column in columns if column.name == "id"), None)
    if ids is None or ids.type not in ("smallint", "integer", "bigint"):
        raise ImportFailedError(
            f"{row.schema}.{row.name} has no column id of whole numbers: it cannot be imported"
        )
    await _refuse_ambiguous_ids(driver, row)
    counted = await one(driver, f'SELECT count(*), max(id) FROM "{row.schema}"."{row.name}"')
    next_id = None
    if ids.sequence is not None:
        (next_id,) = await one(
            driver, f"SELECT last_value + CAST(is_called AS integer) FROM {ids.sequence}"
        )
    kind = "identity" if ids.identity else "serial" if ids.sequence else "plain"
    return Table(row.name, row.schema, row.oid, types, kind, counted[0], counted[1], next_id)


async def _refuse_ambiguous_ids(driver: Driver, row: Row) -> None:
    """A table that lost its primary key may have rows that cannot be told apart."""
    index = await statements(driver).row(_UNIQUE_ID, {"oid": row.oid})
    if index is not None and index.unique:
        return
    cursor = await driver.execute(
        f'SELECT id, count(*) FROM "{row.schema}"."{row.name}" GROUP BY id'
        " HAVING id IS NULL OR count(*) > 1 ORDER BY id LIMIT 5".encode()
    )
    told = [
        f"{count} without an id" if id_ is None else f"{count} with id {id_}"
        for id_, count in await cursor.fetchall()
    ]
    if told:
        raise ImportFailedError(
            f"{row.schema}.{row.name} has rows that cannot be told apart ({', '.join(told)}): "
            "give each an id of its own"
        )


def _is_ours(table: Table) -> bool:
    return table.name == former.JOBS and {"changed_xid", "virtual_start"} <= set(table.columns)


async def is_migrated(driver: Driver) -> bool:
    """Whether unqualified names lead to tables of this service."""
    cursor = await driver.execute("SELECT to_regclass(%s) IS NOT NULL", [VERSION_TABLE])
    row = await cursor.fetchone()
    return bool(row and row[0])
