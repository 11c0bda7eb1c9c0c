"""Temporary tables that stand in for the service's own: a dry run goes through everything in them.

They have no more than what an import writes, and go with the connection.
"""

from typing import Final

from job_service.legacy.session import Driver

_TABLES: Final = """
CREATE TEMPORARY TABLE route_keys (
    id integer GENERATED ALWAYS AS IDENTITY, digest bytea NOT NULL UNIQUE, needs jsonb NOT NULL
);
CREATE TEMPORARY TABLE user_clocks (
    user_id uuid, priority smallint, virtual_finish bigint, last_span bigint,
    PRIMARY KEY (user_id, priority)
);
CREATE TEMPORARY TABLE dispatch_clocks (priority smallint, virtual_time bigint);
CREATE TEMPORARY TABLE user_shares (
    user_id uuid, weight double precision, max_pending integer, max_running integer
);
CREATE TEMPORARY TABLE generation_jobs (
    id bigint PRIMARY KEY, user_id uuid, job_type varchar(50), status varchar(20),
    prompt varchar(20000) NOT NULL, negative_prompt varchar(20000) NOT NULL,
    checkpoint_model varchar(255), lora_models jsonb NOT NULL, width integer, height integer,
    batch_size integer, seed bigint, params jsonb NOT NULL, content_id bigint, error jsonb,
    error_message text, comfyui_prompt_id varchar(255), celery_task_id varchar(255),
    legacy_request_id bigint, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL,
    started_at timestamptz, completed_at timestamptz, dispatchable boolean NOT NULL,
    route_key integer NOT NULL, virtual_start bigint, revision bigint NOT NULL DEFAULT 1
);
CREATE TEMPORARY TABLE job_artifacts (
    job_id bigint, attempt integer, role varchar(20), position integer, thumbnail_size integer,
    filename varchar(255), content_type varchar(127), size bigint, sha256 bytea, object_key text,
    created_at timestamptz, stored_at timestamptz, external_location text,
    UNIQUE (job_id, attempt, role, position, thumbnail_size)
);
CREATE TEMPORARY TABLE job_tombstones (job_id bigint);
CREATE TEMPORARY TABLE models (
    id bigint GENERATED ALWAYS AS IDENTITY, name varchar(255), type varchar(20), description text,
    is_active boolean, UNIQUE (name, type)
);
CREATE TEMPORARY TABLE legacy_rows (
    source varchar(63), source_id bigint, job_id bigint, checksum bigint, outcome varchar(20),
    adjusted text[], conflict boolean NOT NULL DEFAULT false, PRIMARY KEY (source, source_id)
);
CREATE INDEX ON pg_temp.legacy_rows (job_id) WHERE outcome = 'combined';
CREATE TEMPORARY TABLE legacy_models (
    source_id bigint PRIMARY KEY, model_id bigint, checksum bigint, content jsonb
);
CREATE TEMPORARY TABLE import_listed (
    source varchar(63), source_id bigint, job_id bigint, outcome varchar(20), conflict boolean,
    fields jsonb
);
CREATE TEMPORARY TABLE legacy_import (
    singleton boolean PRIMARY KEY DEFAULT true, phase varchar(20), next_id bigint, facts jsonb
);
"""


async def create(driver: Driver) -> None:
    """Make the tables, in front of any others of their names."""
    await driver.execute(_TABLES.encode())


async def forget_jobs(driver: Driver) -> None:
    """Make room for the next batch; what became of which row is remembered."""
    await driver.execute(b"TRUNCATE pg_temp.generation_jobs, pg_temp.job_artifacts")
