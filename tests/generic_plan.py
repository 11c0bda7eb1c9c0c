"""How PostgreSQL runs a statement of job_service: planned as on the service's connections."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from psycopg import sql
from psycopg.adapt import PyFormat, Transformer

from tests.service_fixture import Sql
from tests.statements_sent import Sent

#: A node of EXPLAIN's JSON.
Node: TypeAlias = dict[str, Any]

#: As job_service.store.database sets them.
_SETTINGS: Final = (
    "plan_cache_mode = force_generic_plan", "jit = off", "random_page_cost = 1.1", "timezone = UTC"
)  # fmt: skip
_PLACEHOLDER: Final = re.compile(r"%(?:\((?P<name>\w+)\))?(?P<format>[sbt%])")


async def plan_of(connection: Sql, sent: Sent, *, run: bool = False) -> list[Node]:
    """All nodes of the plan, the topmost first; with ``run`` with the rows that each read.

    EXPLAIN with parameters would plan for their values; PREPARE and EXECUTE plan for any, as the
    service's prepared statements are planned.
    """
    statement, given = sent[0].decode(), sent[1] or ()
    names: list[str] = []

    def numbered(found: re.Match[str]) -> str:
        if found["format"] == "%":
            return "%"
        name = found["name"] or str(len(names))
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    text = _PLACEHOLDER.sub(numbered, statement)
    values = [given[name] for name in names] if isinstance(given, Mapping) else list(given)
    types = await _types(connection, values)
    literals = sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, values)))
    explain = sql.SQL("EXPLAIN ({}FORMAT JSON) EXECUTE statement {}").format(
        sql.SQL("ANALYZE, " if run else ""), literals if values else sql.SQL("")
    )
    async with connection.transaction(force_rollback=True):
        for setting in _SETTINGS:
            await connection.execute(f"SET LOCAL {setting}".encode())
        await connection.execute(f"PREPARE statement {types} AS {text}".encode())
        try:
            cursor = await connection.execute(explain)
            (rows,) = await cursor.fetchone() or ([],)
        finally:
            await connection.execute("DEALLOCATE statement")
    return list(_nodes(rows[0]["Plan"]))


async def _types(connection: Sql, values: list[Any]) -> str:
    """The types psycopg sends these values as, for PREPARE."""
    if not values:
        return ""
    sending = Transformer(connection)
    sending.dump_sequence(values, [PyFormat.AUTO] * len(values))
    cursor = await connection.execute(
        "SELECT CASE oid WHEN 0 THEN 'unknown' ELSE CAST(CAST(oid AS regtype) AS text) END"
        " FROM unnest(%s::oid[]) WITH ORDINALITY AS sent (oid, place) ORDER BY place",
        [list(sending.types or ())],
    )
    return f"({', '.join(name for (name,) in await cursor.fetchall())})"


def _nodes(plan: Node) -> Iterator[Node]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
