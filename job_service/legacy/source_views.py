"""The former tables as temporary views of one shape, whatever state they are in.

``old_job`` and ``old_request`` have the columns id, those of ``former.FIELDS`` (null where the
table has none), and

- ``kept``: what cannot be read as its column's type, and columns that nobody knows, as
  ``{"column": {"value": …, "why": …}}``; null: nothing;
- ``checksum``: a hash of the whole row as it is.

They are temporary: whatever becomes of an import, nothing is left of them.
"""

from collections.abc import Mapping
from typing import Final

from job_service.legacy import former
from job_service.legacy.former import Field
from job_service.legacy.inspection import Found, Table
from job_service.legacy.session import Driver

VIEWS: Final[Mapping[str, str]] = {former.JOBS: "old_job", former.REQUESTS: "old_request"}

_PLAIN: Final[Mapping[str, frozenset[str]]] = {
    "uuid": frozenset({"uuid"}),
    "bigint": frozenset({"smallint", "integer", "bigint"}),
    "jsonb": frozenset({"jsonb"}),
    "timestamptz": frozenset({"timestamp with time zone", "timestamp without time zone", "date"}),
}
#: What the text of a value must be like to be read as one.
_PATTERNS: Final[Mapping[str, str]] = {
    "uuid": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
    "bigint": "^-?[0-9]{1,18}$",
}

# Null for what is no JSON, and for JSON that jsonb refuses (\\u0000, half of a surrogate pair) or
# would lose something of: of a key that is there twice. Colons outside strings are members.
_AS_JSONB: Final = r"""
CREATE OR REPLACE FUNCTION pg_temp.members(value text) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT length(bare) - length(replace(bare, ':', ''))
    FROM regexp_replace(value, '"(?:[^"\\]|\\.)*"', '', 'g') AS bare
$$;
CREATE OR REPLACE FUNCTION pg_temp.as_jsonb(value text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    IF pg_temp.members(value) = pg_temp.members(CAST(CAST(value AS jsonb) AS text)) THEN
        RETURN CAST(value AS jsonb);
    END IF;
    RETURN NULL;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    RETURN NULL;
END
$$;
"""


async def create(driver: Driver, found: Found) -> None:
    """Make the views, for this connection only."""
    await driver.execute(_AS_JSONB.encode())
    for name, view in VIEWS.items():
        table = found.tables.get(name)
        await driver.execute(f"DROP VIEW IF EXISTS pg_temp.{view} CASCADE".encode())
        rows = _empty() if table is None else _select(table)
        await driver.execute(f"CREATE TEMPORARY VIEW {view} AS {rows}".encode())


def _empty() -> str:
    fields = ", ".join(f"CAST(NULL AS {field.kind}) AS {field.name}" for field in former.FIELDS)
    return (
        f"SELECT CAST(NULL AS bigint) AS id, {fields}, CAST(NULL AS jsonb) AS kept,"
        " CAST(NULL AS bigint) AS checksum WHERE false"
    )


def _select(table: Table) -> str:
    columns = [
        f"{_value(field, table.columns.get(field.name))} AS {field.name}" for field in former.FIELDS
    ]
    kept = [
        f"""CASE WHEN {unfit} THEN jsonb_build_object('{field.name}', jsonb_build_object(
            'value', CAST(t.{field.name} AS text), 'why', '{_WHY[field.kind]}'
        )) ELSE '{{}}' END"""
        for field in former.FIELDS
        if (unfit := _unfit(field, table.columns.get(field.name)))
    ] + [_extra(name, table.columns[name]) for name in table.extra_columns]
    return f"""
        SELECT t.id, {", ".join(columns)},
            {f"nullif({' || '.join(kept)}, '{{}}')" if kept else "CAST(NULL AS jsonb)"} AS kept,
            hashtextextended(CAST(t.* AS text), 0) AS checksum
        FROM {table.qualified} AS t {_parsed(table)}
    """


def _parsed(table: Table) -> str:
    """The columns whose text is read as JSON, each once."""
    parsed = [
        f"{_parse(f't.{field.name}', table.columns[field.name])} AS {field.name}"
        for field in former.FIELDS
        if _needs_parsing(field, table.columns.get(field.name))
    ]
    if not parsed:
        return ""
    return f"CROSS JOIN LATERAL (SELECT {', '.join(parsed)} OFFSET 0) AS parsed"


def _parse(name: str, type_: str) -> str:
    if type_ != "json":
        return f"pg_temp.as_jsonb(CAST({name} AS text))"
    # JSON without escapes and long numbers is read by the quick way.
    text = f"CAST({name} AS text)"
    return f"""CASE WHEN strpos({text}, '\\u') > 0 OR {text} ~ '[eE][+-]?[0-9]{{4}}'
            THEN pg_temp.as_jsonb({text})
            WHEN {_colons(text)} = {_colons(f"CAST(CAST({name} AS jsonb) AS text)")}
            THEN CAST({name} AS jsonb) END"""


def _colons(text: str) -> str:
    """How many colons a text has: fewer, when JSON has lost a member on its way to jsonb."""
    return f"length({text}) - length(replace({text}, ':', ''))"


def _needs_parsing(field: Field, type_: str | None) -> bool:
    return field.kind == "jsonb" and not (type_ is None or type_ == "jsonb" or type_.endswith("[]"))


_WHY: Final[Mapping[str, str]] = {
    "uuid": "is no UUID",
    "bigint": "is no whole number",
    "jsonb": "is JSON that jsonb cannot hold, or no JSON; kept as text",
    "timestamptz": "is no point in time",
}


def _value(field: Field, type_: str | None) -> str:
    """The column as a value of the field's kind; null where it is none."""
    if type_ is None:
        return f"CAST(NULL AS {field.kind})"
    name, text = f"t.{field.name}", f"CAST(t.{field.name} AS text)"
    if field.kind == "jsonb":
        # JSON's null is no value either.
        return f"nullif({_json(name, type_)}, 'null')"
    if field.kind == "timestamptz":
        return _time(name, type_)
    if type_ in _PLAIN.get(field.kind, (type_,)):
        return f"CAST({name} AS {field.kind})"
    return f"CASE WHEN {text} ~ '{_PATTERNS[field.kind]}' THEN CAST({text} AS {field.kind}) END"


def _time(name: str, type_: str) -> str:
    """A point in time; one without a zone is UTC."""
    if type_.startswith("timestamp") and type_.endswith("with time zone"):
        return name
    if type_.startswith("timestamp") or type_ == "date":
        return f"CAST({name} AS timestamp) AT TIME ZONE 'UTC'"
    return "CAST(NULL AS timestamptz)"


def _json(name: str, type_: str) -> str:
    if type_ == "jsonb":
        return name
    if type_.endswith("[]"):
        return f"to_jsonb({name})"
    return name.replace("t.", "parsed.")


def _unfit(field: Field, type_: str | None) -> str | None:
    """The condition under which a value is not one of the field's kind; None: it always is."""
    if type_ is None or field.kind == "text" or type_ in _PLAIN[field.kind]:
        return None
    if field.kind == "timestamptz" and type_.startswith("timestamp"):
        return None
    name = f"t.{field.name}"
    if field.kind == "jsonb":
        unfit = f"{name} IS NOT NULL AND parsed.{field.name} IS NULL"
        return unfit if _needs_parsing(field, type_) else None
    return f"{name} IS NOT NULL AND {_value(field, type_)} IS NULL"


def _extra(name: str, type_: str) -> str:
    quoted = '"' + name.replace('"', '""') + '"'
    literal = "'" + name.replace("'", "''") + "'"
    value = (
        f"coalesce(pg_temp.as_jsonb(CAST(t.{quoted} AS text)), to_jsonb(CAST(t.{quoted} AS text)))"
        if type_ == "json"
        else f"to_jsonb(t.{quoted})"
    )
    return f"""CASE WHEN t.{quoted} IS NOT NULL THEN jsonb_build_object({literal},
        jsonb_build_object('value', {value}, 'why', 'a column of its own')
    ) ELSE '{{}}' END"""
