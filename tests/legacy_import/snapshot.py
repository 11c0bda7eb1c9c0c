"""All that is in a database, to be compared with itself later."""

from collections.abc import Collection
from typing import Any, Final, TypeAlias

import psycopg

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
#: By table: its columns, constraints, indexes and triggers, whose it is, its rows, and what its ids
#: go on with; by sequence and by view: all there is.
Snapshot: TypeAlias = dict[str, dict[str, Any]]

_TABLES: Final = """
SELECT format('%%I.%%I', nspname, relname) AS name FROM pg_class
JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE relkind = 'r' AND nspname NOT IN ('pg_catalog', 'information_schema')
    AND nspname NOT LIKE 'pg_toast%%' AND nspname NOT LIKE 'pg_temp%%'
ORDER BY name
"""
_DESCRIBED: Final = {
    "columns": """
        SELECT attname, format_type(atttypid, atttypmod), attnotnull, attidentity,
            pg_get_expr(adbin, adrelid), col_description(attrelid, attnum)
        FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE attrelid = CAST(%(table)s AS regclass) AND attnum > 0 AND NOT attisdropped
        ORDER BY attnum
    """,
    # what PostgreSQL 18 lists of NOT NULL is said by the columns
    "constraints": """
        SELECT conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint
        WHERE conrelid = CAST(%(table)s AS regclass) AND contype <> 'n' ORDER BY conname
    """,
    "indexes": """
        SELECT pg_get_indexdef(indexrelid) FROM pg_index
        WHERE indrelid = CAST(%(table)s AS regclass) ORDER BY 1
    """,
    "triggers": """
        SELECT pg_get_triggerdef(oid), tgenabled FROM pg_trigger
        WHERE tgrelid = CAST(%(table)s AS regclass) AND NOT tgisinternal ORDER BY 1
    """,
    "owner, grants and comment": """
        SELECT CAST(CAST(relowner AS regrole) AS text),
            ARRAY(SELECT CAST(one AS text) FROM unnest(relacl) AS one ORDER BY 1),
            obj_description(oid, 'pg_class')
        FROM pg_class WHERE oid = CAST(%(table)s AS regclass)
    """,
}
_SEQUENCES: Final = """
SELECT format('%I.%I', schemaname, sequencename), to_jsonb(pg_sequences), (
    SELECT CAST(CAST(refobjid AS regclass) AS text) || ' ' || refobjsubid FROM pg_depend
    WHERE classid = CAST('pg_class' AS regclass) AND deptype IN ('a', 'i')
        AND objid = to_regclass(format('%I.%I', schemaname, sequencename))
) FROM pg_sequences
"""
_VIEWS: Final = """
SELECT format('%I.%I', schemaname, viewname), definition FROM pg_views
WHERE schemaname NOT IN ('pg_catalog', 'information_schema')
"""


def snapshot(connection: Connection, schemas: Collection[str] = ()) -> Snapshot:
    """What is there; with ``schemas`` only in these."""
    taken: Snapshot = {}
    for (table,) in connection.execute(_TABLES.replace("%%", "%").encode()).fetchall():
        if schemas and table.partition(".")[0] not in schemas:
            continue
        taken[table] = {
            what: connection.execute(query.encode(), {"table": table}).fetchall()
            for what, query in _DESCRIBED.items()
        }
        taken[table]["rows"] = _rows(connection, table)
        taken[table]["next id"] = _next_id(connection, table)
    for kind, query in (("sequence", _SEQUENCES), ("view", _VIEWS)):
        for name, *described in connection.execute(query.encode()).fetchall():
            if not schemas or name.partition(".")[0] in schemas:
                taken[f"{kind} {name}"] = {"it": described}
    return taken


def _rows(connection: Connection, table: str) -> list[bytes]:
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} TO STDOUT".encode()) as copy:
        return sorted(bytes(row) for row in copy)


def _next_id(connection: Connection, table: str) -> Any:
    found = connection.execute(
        """
        SELECT pg_get_serial_sequence(%(table)s, attname) FROM pg_attribute
        WHERE attrelid = CAST(%(table)s AS regclass) AND attname = 'id'
        """,
        {"table": table},
    ).fetchone()
    if found is None or found[0] is None:
        return None
    return connection.execute(f"SELECT last_value, is_called FROM {found[0]}".encode()).fetchone()


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """In words, what is not as it was."""
    return [
        f"{table}: {what} were {_short(*_apart(was, after.get(table, {}).get(what)))}"
        for table, described in before.items()
        for what, was in described.items()
        if after.get(table, {}).get(what) != was
    ]


def _apart(was: Any, now: Any) -> tuple[Any, Any]:
    """Of lists only what is not in both."""
    if isinstance(was, list) and isinstance(now, list):
        only = [one for one in was if one not in now], [one for one in now if one not in was]
        return only if any(only) else (was, now)
    return was, now


def _short(was: Any, now: Any) -> str:
    told = [
        text if len(text) < 400 else f"{text[:400]}… ({len(text)} characters)"
        for text in (repr(was), repr(now))
    ]
    return ", are ".join(told)
