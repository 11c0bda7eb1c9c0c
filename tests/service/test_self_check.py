"""``job-service check`` says what is wrong, and of everything that is wrong how to mend it."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from job_service import self_check
from job_service.self_check import Finding
from job_service.settings import Settings
from tests.service_fixture import Sql


async def check(settings: Settings, **changes: Any) -> dict[str, Finding]:
    """The findings by subject."""
    found = await self_check.run(settings.model_copy(update=changes))
    for one in found:
        assert one.good or one.remedy, one
    return {one.subject: one for one in found}


async def test_nothing_is_wrong(service_settings: Settings) -> None:
    found = await check(service_settings, metrics_listen="127.0.0.1:0")
    assert all(one.good for one in found.values()), found
    assert set(found) == {
        "database", "schema", "artifact store", "access", "address", "metrics address"
    }  # fmt: skip


async def test_the_address_of_a_running_service_is_in_use(
    service: str, service_settings: Settings
) -> None:
    found = await check(service_settings, listen=service)
    assert found["address"].good
    assert "in use" in found["address"].says


async def test_an_address_of_another_machine(service_settings: Settings) -> None:
    found = await check(service_settings, metrics_listen="192.0.2.1:9090")
    assert not found["metrics address"].good
    assert "address of this machine" in found["metrics address"].remedy


@pytest.mark.parametrize(
    ("revision", "remedy"), [("0001", "job-service migrate"), ("9999", "install the version")]
)
async def test_a_schema_of_another_version(
    service_settings: Settings, sql: Sql, revision: str, remedy: str
) -> None:
    await sql.execute("UPDATE generation_jobs_alembic_version SET version_num = %s", (revision,))
    found = await check(service_settings)
    assert not found["schema"].good
    assert remedy in found["schema"].remedy


async def test_a_user_who_may_not_write(
    service_settings: Settings, sql: Sql, database_url: str
) -> None:
    await sql.execute("DROP ROLE IF EXISTS may_only_read")
    await sql.execute("CREATE ROLE may_only_read LOGIN PASSWORD 'pw'")
    try:
        await sql.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO may_only_read")
        url = make_url(database_url).set(username="may_only_read", password="pw")
        found = await check(
            service_settings, database_url=url.render_as_string(hide_password=False)
        )
        assert "may_only_read may not write" in found["database"].says
        assert "GRANT ALL" in found["database"].remedy
    finally:
        await sql.execute("DROP OWNED BY may_only_read")
        await sql.execute("DROP ROLE may_only_read")


async def test_a_database_that_takes_no_writes(service_settings: Settings, sql: Sql) -> None:
    row = await (await sql.execute("SELECT current_database()")).fetchone()
    assert row is not None
    await sql.execute(f"ALTER DATABASE {row[0]} SET default_transaction_read_only = on".encode())
    found = await check(service_settings)
    assert not found["database"].good
    assert "primary" in found["database"].remedy


async def test_a_pool_larger_than_the_server(service_settings: Settings) -> None:
    found = await check(service_settings, database_pool_size=5000)
    assert "connections left" in found["database"].says
    assert "max_connections" in found["database"].remedy


async def test_a_store_that_cannot_be_written(service_settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = await check(service_settings, artifact_store=(tmp_path / "file" / "s").as_uri())
    assert not found["artifact store"].good
    assert "directory" in found["artifact store"].remedy
