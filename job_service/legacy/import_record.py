"""What an import remembers of itself, in the one row of ``legacy_import``: its phase, and facts."""

from collections.abc import Mapping
from typing import Any

from job_service.legacy.session import Driver, one, statements
from job_service.store.database import as_json, statement


async def state(driver: Driver) -> tuple[str | None, dict[str, Any]]:
    """Phase and facts of the import; no phase: none has begun."""
    (there,) = await one(driver, "SELECT to_regclass('legacy_import') IS NOT NULL")
    if not there:
        return None, {}
    row = await statements(driver).row(statement("SELECT phase, facts FROM legacy_import"))
    return (None, {}) if row is None else (row.phase, row.facts)


async def begin(driver: Driver, next_id: int, mode: str) -> None:
    """Fix where new ids begin and how it is done, once for all runs of this import."""
    await statements(driver).run(
        statement(
            "INSERT INTO legacy_import (phase, next_id, facts)"
            " VALUES ('importing', :next_id, CAST(:facts AS jsonb)) ON CONFLICT DO NOTHING"
        ),
        {"next_id": next_id, "facts": as_json({"mode": mode})},
    )


async def cut_over(driver: Driver, facts: Mapping[str, Any]) -> None:
    """Note that the cutover is done, and what an undo has to know of it."""
    await statements(driver).run(
        statement(
            "UPDATE legacy_import SET phase = 'cut over', facts = facts || CAST(:facts AS jsonb)"
        ),
        {"facts": as_json(facts)},
    )


async def add_facts(driver: Driver, facts: Mapping[str, Any]) -> None:
    """Remember more."""
    await statements(driver).run(
        statement("UPDATE legacy_import SET facts = facts || CAST(:facts AS jsonb)"),
        {"facts": as_json(facts)},
    )
