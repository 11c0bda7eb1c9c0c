"""What the schema itself refuses, whoever writes."""

import psycopg
import pytest

from tests.jobs_protocol import ProtocolClient
from tests.service_fixture import Sql

REFUSED_CHANGES = [
    ("prompt_immutable", "prompt = 'another'"),
    ("prompt_immutable", "prompt = prompt || ' '"),
    ("status_known", "status = 'processing', dispatchable = false"),
    ("job_type_known", "job_type = 'smell'"),
    ("size_in_range", "width = 63"),
    ("size_in_range", "height = 100"),
    ("size_in_range", "width = 8200"),
    ("batch_size_in_range", "batch_size = 0"),
    ("seed_not_negative", "seed = -1"),
    ("template_has_workflow", "template_name = 't', template_version = 1"),
    ("template_has_version", "template_name = 't'"),
    ("priority_in_range", "priority = 101"),
    ("attempts_in_range", "attempts_charged = 1"),
    ("attempts_in_range", "max_attempts = 0"),
    ("attempt_timeout_in_range", "attempt_timeout = '9 seconds'"),
    ("lease_only_while_running", "lease_token = gen_random_uuid()"),
    ("lease_only_while_running", "status = 'running', dispatchable = false"),
    ("completed_at_when_ended", "status = 'cancelled', dispatchable = false"),
    ("completed_at_when_ended", "completed_at = now()"),
    ("failed_says_why", "status = 'failed', completed_at = now(), dispatchable = false"),
    ("dispatchable_is_queued", "virtual_start = NULL"),
    ("request_id_has_hash", "request_id = 'r'"),
]


async def test_a_change_that_breaks_an_invariant_is_refused(
    client: ProtocolClient, sql: Sql, subtests: pytest.Subtests
) -> None:
    before = await client.create()
    for constraint, change in REFUSED_CHANGES:
        with subtests.test(change):
            with pytest.raises(psycopg.errors.IntegrityError) as refused:
                await sql.execute(f"UPDATE generation_jobs SET {change}".encode())
            assert refused.value.diag.constraint_name == constraint
    assert await client.get(before.id) == before


@pytest.mark.parametrize("prompt", ["", " ", " \t\r\n\f\v"])
async def test_a_blank_prompt_is_refused(sql: Sql, prompt: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation) as refused:
        await sql.execute("INSERT INTO generation_jobs (prompt) VALUES (%s)", [prompt])
    assert refused.value.diag.constraint_name == "prompt_not_blank"


async def test_the_prompt_may_be_written_again_unchanged(client: ProtocolClient, sql: Sql) -> None:
    job = await client.create()
    await sql.execute("UPDATE generation_jobs SET prompt = prompt, negative_prompt = 'blurry'")
    assert (await client.get(job.id)).negative_prompt == "blurry"


async def test_any_change_moves_the_revision_but_renewals_and_progress_do_not(
    client: ProtocolClient, sql: Sql
) -> None:
    job = await client.create()

    async def revision_after(change: str) -> int:
        await sql.execute(f"UPDATE generation_jobs SET {change}".encode())
        return (await client.get(job.id)).revision

    assert await revision_after('labels = \'{"a": "b"}\'') == 2
    assert await revision_after("progress = '{\"fraction\": 0.5}'") == 2
    assert await revision_after("priority = 3") == 3
    assert await revision_after("content_id = 7") == 4


async def test_two_jobs_of_a_user_cannot_share_a_request_id(
    client: ProtocolClient, sql: Sql
) -> None:
    await client.create(request_id="r")
    with pytest.raises(psycopg.errors.UniqueViolation):
        await sql.execute(
            "INSERT INTO generation_jobs (user_id, prompt, request_id, request_hash)"
            " SELECT user_id, prompt, request_id, request_hash FROM generation_jobs"
        )
