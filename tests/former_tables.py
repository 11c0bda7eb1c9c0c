"""The former system's database, in each of its states, with a few rows of every kind."""

import json
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

from job_service.legacy import command
from job_service.legacy.command import Command
from job_service.legacy.options import Options
from tests.postgres_fixture import plain_url

APP = """
CREATE TABLE users (id uuid PRIMARY KEY);
CREATE TABLE content_items (id integer PRIMARY KEY);
CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY);
INSERT INTO alembic_version VALUES ('theirs');
INSERT INTO users VALUES ('aaaaaaaa-0000-4000-8000-000000000001');
INSERT INTO content_items VALUES (42);
CREATE TABLE available_models (
    id serial PRIMARY KEY, name varchar(255) NOT NULL, type varchar(20) NOT NULL,
    file_path varchar(500) UNIQUE, description text, is_active boolean NOT NULL DEFAULT true,
    created_at timestamp, updated_at timestamp, UNIQUE (name, type)
);
INSERT INTO available_models (name, type, file_path, description)
VALUES ('sdxl.safetensors', 'checkpoint', '/models/sdxl.safetensors', 'large');
"""

STATE_A = """
CREATE TABLE generation_jobs (
    id serial PRIMARY KEY, user_id uuid REFERENCES users, job_type varchar(50),
    prompt varchar(20000), parameters jsonb, status varchar(20),
    result_content_id integer REFERENCES content_items,
    created_at timestamp, updated_at timestamp, started_at timestamp, completed_at timestamp,
    error_message text
);
"""

STATE_B = """
CREATE TABLE generation_jobs (
    id {ids} PRIMARY KEY, user_id uuid REFERENCES users ON DELETE SET NULL, job_type varchar(50),
    prompt varchar(20000), params jsonb, status varchar(20),
    content_id integer REFERENCES content_items ON DELETE SET NULL,
    celery_task_id varchar(255), negative_prompt text, checkpoint_model varchar(255),
    lora_models jsonb, width integer, height integer, batch_size integer,
    comfyui_prompt_id varchar(255),
    created_at timestamp, updated_at timestamp, started_at timestamp, completed_at timestamp,
    error_message text
);
"""

REQUESTS = """
CREATE TABLE comfyui_generation_requests (
    id serial PRIMARY KEY, user_id uuid, prompt text, negative_prompt text,
    checkpoint_model varchar(255) NOT NULL, lora_models json, width integer, height integer,
    batch_size integer NOT NULL, sampler_params json, status varchar(20),
    comfyui_prompt_id varchar(255) UNIQUE, output_paths json, thumbnail_paths json,
    created_at timestamp, updated_at timestamp, started_at timestamp, completed_at timestamp,
    error_message text
);
"""

NOTIFICATIONS = """
CREATE TABLE user_notifications (
    id serial PRIMARY KEY,
    related_job_id integer REFERENCES generation_jobs ON DELETE SET NULL
);
"""

A_ROWS = r"""
INSERT INTO generation_jobs (
    id, user_id, job_type, prompt, parameters, status, result_content_id, created_at, updated_at,
    started_at, completed_at, error_message
) VALUES
(1, 'aaaaaaaa-0000-4000-8000-000000000001', 'image_generation', 'a red fox',
    '{"sampler_params": {"steps": 30, "cfg": 7.5, "seed": 9007199254740993}, "style": "oil"}',
    'completed', 42, '2024-01-01 10:00', '2024-01-01 11:00', '2024-01-01 10:01',
    '2024-01-01 10:02', NULL),
(2, NULL, 'text', 'a poem', '[1, 2]', 'failed', NULL, '2024-01-02', '2024-01-02', NULL,
    '2024-01-02 01:00', 'broke at /srv/app/x.py'),
(3, NULL, 'image', 'wait', '{}', 'pending', NULL, '2024-01-03', '2024-01-03', NULL, NULL, NULL),
(4, NULL, 'image', '  ', NULL, 'processing', NULL, '2024-01-03', NULL, '2024-01-03', NULL, NULL),
(7, NULL, 'music', 'odd', '{"legacy": 1}', 'archived', NULL, 'infinity', NULL, NULL, NULL, NULL);
SELECT setval('generation_jobs_id_seq', 3);
"""

B_ROWS = r"""
INSERT INTO generation_jobs (
    id, user_id, job_type, prompt, params, status, content_id, celery_task_id, negative_prompt,
    checkpoint_model, lora_models, width, height, batch_size, comfyui_prompt_id, created_at,
    updated_at, started_at, completed_at, error_message
) VALUES
(1, 'aaaaaaaa-0000-4000-8000-000000000001', 'image', 'a red fox', '{"style": "oil"}', 'completed',
    42, 'celery-1', 'text', 'sdxl.safetensors',
    '[{"name": "film.safetensors", "strength_model": 0.8, "strength_clip": 0.8}]',
    832, 1216, 1, 'prompt-1', '2024-01-01 10:00', '2024-01-01 11:00', '2024-01-01 10:01',
    '2024-01-01 10:02', NULL),
(2, NULL, 'image', 'a blue fox', NULL, 'failed', NULL, NULL, NULL, 'sdxl.safetensors',
    '[{"name": "film.safetensors", "strength": 0.5}]', 100, 512, 2000, NULL, '2024-01-02',
    '2024-01-02', NULL, '2024-01-02 01:00', NULL),
(3, 'aaaaaaaa-0000-4000-8000-000000000001', 'image', 'wait', '{}', 'pending', NULL, NULL, NULL,
    'sdxl.safetensors', NULL, 512, 512, 1, NULL, '2024-01-03', '2024-01-03', NULL, NULL, NULL),
(5, NULL, 'image', 'a green fox', '{}', 'cancelled', NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, '2024-01-04', '2024-01-04', NULL, '2024-01-04 02:00', NULL),
(-3, NULL, 'image', 'negative', '{}', 'completed', NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, '2024-01-04', '2024-01-04', NULL, '2024-01-04 02:00', NULL);
"""

REQUEST_ROWS = r"""
INSERT INTO comfyui_generation_requests (
    id, user_id, prompt, negative_prompt, checkpoint_model, lora_models, width, height, batch_size,
    sampler_params, status, comfyui_prompt_id, output_paths, thumbnail_paths, created_at,
    updated_at, started_at, completed_at, error_message
) VALUES
(1, 'aaaaaaaa-0000-4000-8000-000000000001', 'a red fox!', 'text', 'sdxl.safetensors', '[]', 832,
    1024, 1, '{"steps": 20, "sampler_name": "euler", "seed": -1}', 'completed', 'prompt-1',
    '["out/fox.png"]', '["out/fox_150.webp", "out/fox_300.webp"]', '2024-01-01 10:00',
    '2024-01-01 11:00', NULL, '2024-01-01 10:02', NULL),
(2, NULL, 'a green fox', NULL, 'sdxl.safetensors', NULL, 64, 64, 1, NULL, 'cancelled', NULL,
    NULL, NULL, '2024-01-04', '2024-01-04', NULL, NULL, NULL),
(3, NULL, 'alone', NULL, 'sdxl.safetensors', '{"a": 1, "a": 2}', 64, 64, 1, '{"x": "\u0000"}',
    'completed', 'prompt-3', '["/abs/one.png", "two.png"]', NULL, '2024-01-05', '2024-01-05', NULL,
    '2024-01-05', NULL),
(4, NULL, 'queued', NULL, 'sdxl.safetensors', NULL, 64, 64, 1, NULL, 'running', 'prompt-4',
    NULL, NULL, '2024-01-06', '2024-01-06', '2024-01-06', NULL, NULL);
"""


def build(url: str, state: str) -> None:
    """Make a former system of state A, B or C, with rows."""
    ids = "integer GENERATED BY DEFAULT AS IDENTITY" if state == "C" else "serial"
    parts = {
        "A": (APP, STATE_A, REQUESTS, NOTIFICATIONS, A_ROWS, REQUEST_ROWS),
        "B": (APP, STATE_B.format(ids=ids), REQUESTS, NOTIFICATIONS, B_ROWS, REQUEST_ROWS),
        "C": (APP, STATE_B.format(ids=ids), NOTIFICATIONS, B_ROWS),
    }[state]
    execute(url, *parts, "INSERT INTO user_notifications (related_job_id) VALUES (1), (2)")


def plain(url: str) -> str:
    return plain_url(make_url(url))


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(plain(url), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(plain(url), autocommit=True) as connection:
        return connection.execute(statement.encode()).fetchall()


def content(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Everything the application has in its schema, as text, with its constraints."""
    tables = query(
        url,
        "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('public')"
        " AND relkind = 'r' ORDER BY 1",
    )
    rows = {name: query(url, f"SELECT t::text FROM {name} AS t ORDER BY 1") for (name,) in tables}
    rows["constraints"] = query(
        url,
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated"
        " FROM pg_constraint WHERE connamespace = to_regnamespace('public') AND contype <> 'n'"
        " ORDER BY 1, 2",
    )
    return rows


async def import_legacy(
    url: str,
    *,
    report: Path | None = None,
    undo: bool = False,
    drop: bool = False,
    dump: Path | None = None,
    **options: Any,
) -> list[str]:
    """Run the command in this process; what it says."""
    said: list[str] = []
    await command.run(
        Command(
            options=Options(url=url, **options),
            undo=undo,
            drop=drop,
            dump=dump,
            report=report,
        ),
        said.append,
    )
    return said


def read(report: Path) -> dict[str, Any]:
    """What an import wrote to ``report``."""
    loaded: dict[str, Any] = json.loads(report.read_text())
    return loaded
