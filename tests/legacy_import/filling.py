"""A large former installation in state A, made inside PostgreSQL."""

from dataclasses import dataclass
from typing import Final

from tests.legacy_import.old_content import Connection, OldContent
from tests.legacy_import.old_shape import OldShape, State


@dataclass(frozen=True)
class Large:
    """How many rows each table has, and how many requests had been merged into a job."""

    jobs: int
    requests: int
    merged: int

    def build(self, connection: Connection) -> None:
        """Make the tables and fill them; as after a VACUUM."""
        OldContent(OldShape(state=State.A, app_tables=False)).build(connection)
        values = {"jobs": self.jobs, "requests": self.requests, "merged": self.merged}
        connection.execute(_FILLED.format(**values).encode())
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM (ANALYZE) generation_jobs, comfyui_generation_requests")
        connection.autocommit = False

    @property
    def rows(self) -> int:
        """Of both tables."""
        return self.jobs + self.requests


# Of a hundred rows 93 are completed, four failed, two cancelled, and one waits.
_STATUS: Final = """
    CASE WHEN n % 100 < 93 THEN 'completed' WHEN n % 100 < 97 THEN 'failed'
        WHEN n % 100 < 99 THEN 'cancelled' ELSE 'pending' END
"""
_TIMES: Final = """
    timestamp '2024-01-01' + n * interval '7.000011 s',
    timestamp '2024-01-01' + n * interval '7.000011 s' + interval '40 s',
    CASE WHEN n % 100 < 99 THEN timestamp '2024-01-01' + n * interval '7 s' + interval '10 s' END,
    CASE WHEN n % 100 < 99 THEN timestamp '2024-01-01' + n * interval '7 s' + interval '40 s' END
"""
_USER: Final = "CAST(lpad(to_hex(1 + n % 1000), 32, '0') AS uuid)"
_PROMPT: Final = "'a red fox in the snow, ' || md5(CAST(n AS text)) || ', highly detailed 🦊'"

_FILLED: Final = f"""
INSERT INTO generation_jobs (
    user_id, job_type, prompt, parameters, status, created_at, updated_at, started_at,
    completed_at, error_message
)
SELECT {_USER}, CASE WHEN n % 10 = 0 THEN 'image_generation' ELSE 'image' END, {_PROMPT},
    jsonb_build_object('style', 'oil', 'steps', n % 50, 'note', md5(CAST(-n AS text))),
    {_STATUS}, {_TIMES}, CASE WHEN n % 100 BETWEEN 93 AND 96 THEN 'out of memory' END
FROM generate_series(1, {{jobs}}) AS n;

INSERT INTO comfyui_generation_requests (
    user_id, prompt, negative_prompt, checkpoint_model, lora_models, width, height, batch_size,
    sampler_params, status, comfyui_prompt_id, output_paths, thumbnail_paths, created_at,
    updated_at, started_at, completed_at, error_message
)
SELECT {_USER}, {_PROMPT}, 'text, watermark', 'sdxl.safetensors',
    jsonb_build_array(jsonb_build_object('name', 'detail.safetensors', 'strength_model', 0.5)),
    832, 1216, 1,
    jsonb_build_object('seed', n, 'steps', 28, 'cfg', 5.5, 'sampler_name', 'euler',
        'scheduler', 'normal'),
    {_STATUS}, CAST(md5('p' || n) AS uuid),
    jsonb_build_array('2024/fox_' || n || '_1.png', '2024/fox_' || n || '_2.png'),
    jsonb_build_array('2024/thumbs/fox_' || n || '_1.webp'),
    {_TIMES}, CASE WHEN n % 100 BETWEEN 93 AND 96 THEN 'out of memory' END
FROM (
    SELECT CASE WHEN n <= {{merged}} THEN n ELSE {{jobs}} + n END AS n
    FROM generate_series(1, {{requests}}) AS n
) AS one;
"""
