"""Which former request became part of which former job.

By the same ``comfyui_prompt_id`` first, then by the same user, prompt and creation time. Of several
that match, the first request goes with the first job, the second with the second; requests that
are left over become jobs of their own.
"""

from typing import Final

from job_service.legacy import former
from job_service.legacy.session import Driver

_CREATE: Final = """
DROP TABLE IF EXISTS pg_temp.import_match;
CREATE TEMPORARY TABLE import_match (
    request_id bigint PRIMARY KEY,
    job_id bigint NOT NULL UNIQUE
)
"""

_BY_PROMPT_ID: Final = """
INSERT INTO import_match (request_id, job_id)
SELECT request.id, job.id
FROM (
    SELECT id, comfyui_prompt_id,
        row_number() OVER (PARTITION BY comfyui_prompt_id ORDER BY id) AS place
    FROM old_request WHERE comfyui_prompt_id <> ''
) AS request
JOIN (
    SELECT id, comfyui_prompt_id,
        row_number() OVER (PARTITION BY comfyui_prompt_id ORDER BY id) AS place
    FROM old_job WHERE comfyui_prompt_id <> ''
) AS job USING (comfyui_prompt_id, place)
"""

# Users that were deleted are the same nobody.
_BY_CONTENT: Final = """
INSERT INTO import_match (request_id, job_id)
SELECT request.id, job.id
FROM (
    SELECT id, user_id, prompt, created_at,
        row_number() OVER (PARTITION BY user_id, prompt, created_at ORDER BY id) AS place
    FROM old_request
    WHERE prompt IS NOT NULL AND created_at IS NOT NULL
        AND NOT EXISTS (SELECT FROM import_match WHERE request_id = old_request.id)
) AS request
JOIN (
    SELECT id, user_id, prompt, created_at,
        row_number() OVER (PARTITION BY user_id, prompt, created_at ORDER BY id) AS place
    FROM old_job
    WHERE prompt IS NOT NULL AND created_at IS NOT NULL
        AND NOT EXISTS (SELECT FROM import_match WHERE job_id = old_job.id)
) AS job
    ON job.created_at = request.created_at AND job.place = request.place
    AND job.prompt = request.prompt AND job.user_id IS NOT DISTINCT FROM request.user_id
"""


# A request whose job has been worked on here stays what it is.
_SETTLED: Final = f"""
DELETE FROM import_match USING legacy_rows AS before
WHERE before.source = '{former.REQUESTS}' AND before.source_id = import_match.request_id
    AND before.outcome = 'imported'
    AND NOT EXISTS (SELECT FROM generation_jobs WHERE id = before.job_id AND revision = 1)
"""

_KNOWN: Final = f"""
DELETE FROM import_match USING legacy_rows AS before
WHERE before.source = '{former.REQUESTS}' AND before.source_id = import_match.request_id
    OR before.source = '{former.JOBS}' AND before.source_id = import_match.job_id
"""


async def match(driver: Driver, *, only_new: bool) -> None:
    """Fill the temporary table ``import_match`` anew.

    ``only_new``: with rows that are not imported yet.
    """
    await driver.execute(_CREATE.encode())
    for statement in (_BY_PROMPT_ID, _BY_CONTENT, _KNOWN if only_new else _SETTLED):
        await driver.execute(statement.encode())
    await driver.execute(b"ANALYZE import_match")
