"""The command job-service: what it prints, what it refuses and how it exits."""

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest
from sqlalchemy import URL

from job_service.access import secret, tokens_file
from job_service.access.exposure import PLAIN_WORDS
from job_service.store import migrate
from tests import former_tables
from tests.postgres_fixture import new_database

COMMAND = Path(sysconfig.get_path("scripts")) / "job-service"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def _run(data_dir: Path, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("JOB_SERVICE_")
    }
    return subprocess.run(
        [COMMAND, *arguments],
        env={
            **inherited,
            "JOB_SERVICE_DATA_DIR": str(data_dir),
            **{f"JOB_SERVICE_{name}": value for name, value in settings.items()},
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_check_tells_an_empty_database_from_a_migrated_one(data_dir: Path) -> None:
    before = _run(data_dir, "check")
    migrated = _run(data_dir, "migrate")
    after = _run(data_dir, "check")

    assert before.returncode == 1
    assert "FAILED  schema: empty" in before.stdout
    assert migrated.returncode == 0
    assert migrated.stdout == f"schema at revision {migrate.expected()}\n"
    assert after.returncode == 0, after.stdout
    assert after.stdout.count("ok    ") == 5
    assert "access: 127.0.0.1:50051 in the clear; every caller is the local admin" in after.stdout


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_cannot_hold_every_text_is_told_of_in_a_line(
    postgres_server: URL, data_dir: Path, encoding: str
) -> None:
    said = f"the database's encoding is {encoding}, and prompts need UTF8: create one with"
    with new_database(postgres_server, encoding=encoding) as url:
        settings = {
            "DATABASE_URL": url.render_as_string(hide_password=False),
            "LISTEN": "127.0.0.1:0",
        }
        for command in ("migrate", "serve"):
            refused = _run(data_dir, command, **settings)
            assert refused.returncode == 1
            assert refused.stderr.startswith(f"job-service: {said}")
            assert refused.stderr.count("\n") == 1
        checked = _run(data_dir, "check", **settings)
        assert checked.returncode == 1
        assert f"FAILED  database: {said}" in checked.stdout
        assert "→ a database cannot change its encoding" in checked.stdout


def test_check_reports_what_it_cannot_reach(tmp_path: Path, data_dir: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()

    checked = _run(
        data_dir,
        "check",
        DATABASE_URL="postgresql://ada:s3cret@127.0.0.1:1/jobs",
        ARTIFACT_STORE=(in_the_way / "store").as_uri(),
        TLS_CERT=str(in_the_way),
        TLS_KEY=str(tmp_path / "missing.key"),
    )

    assert checked.returncode == 1
    assert "FAILED  database: cannot reach the database" in checked.stdout
    assert "        → start PostgreSQL, and see that host, port" in checked.stdout
    assert "FAILED  artifact store: file://" in checked.stdout
    assert "FAILED  access: cannot read" in checked.stdout
    assert "s3cret" not in checked.stdout + checked.stderr
    assert "Traceback" not in checked.stderr


def test_serve_does_not_touch_a_foreign_database_unasked(
    data_dir: Path, empty_database_url: str
) -> None:
    served = _run(data_dir, "serve", DATABASE_URL=empty_database_url)

    assert served.returncode == 1
    assert "schema is empty" in served.stderr
    assert "job-service migrate" in served.stderr
    assert "Traceback" not in served.stderr
    assert migrate.current(empty_database_url) is None


def test_unusable_settings_end_every_command_with_their_names(data_dir: Path) -> None:
    for command in ("serve", "migrate", "check", "config"):
        refused = _run(data_dir, command, LISTEN="nowhere", LEASE_TTL="never", LISTN="x")

        assert refused.returncode == 1
        assert "JOB_SERVICE_LISTEN: must be host:port" in refused.stderr
        assert "JOB_SERVICE_LEASE_TTL: must be seconds" in refused.stderr
        assert "did you mean JOB_SERVICE_LISTEN?" in refused.stderr
        assert "Traceback" not in refused.stderr
    assert not data_dir.exists()


def test_config_can_be_read_back_and_holds_no_secret(data_dir: Path) -> None:
    shown = _run(data_dir, "config", DATABASE_URL="postgres://ada:s3cret@db/jobs", LEASE_TTL="PT1M")

    lines = [line for line in shown.stdout.splitlines() if not line.startswith("#")]
    assert "JOB_SERVICE_DATABASE_URL=postgresql+psycopg://ada:***@db/jobs" in lines
    assert "JOB_SERVICE_LEASE_TTL=60" in lines
    assert "s3cret" not in shown.stdout + shown.stderr
    again = _run(
        data_dir,
        "config",
        **dict(line.removeprefix("JOB_SERVICE_").split("=", 1) for line in lines),
    )
    assert again.stdout == shown.stdout


def test_serve_refuses_what_others_could_reach_without_protection(data_dir: Path) -> None:
    refused = _run(data_dir, "serve", LISTEN="0.0.0.0:0", REQUIRE_TOKENS="false")

    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert "others can reach 0.0.0.0:0" in line
    assert "JOB_SERVICE_TLS_CERT" in line
    assert f'JOB_SERVICE_INSECURE_LISTEN="{PLAIN_WORDS}"' in line
    assert not data_dir.exists()

    vague = _run(data_dir, "serve", LISTEN="0.0.0.0:0", INSECURE_LISTEN="yes")
    assert vague.returncode == 1
    assert f"JOB_SERVICE_INSECURE_LISTEN: must read: {PLAIN_WORDS}" in vague.stderr


def test_a_token_is_shown_once_and_listed_without_itself(data_dir: Path, database_url: str) -> None:
    user = "6f1c52b4-8a39-4a0e-9f43-0c1d1c1b7a10"
    database = {"DATABASE_URL": database_url}
    made = _run(data_dir, "token", "create", "ada", "--role", "client", "--user", user, **database)
    assert made.returncode == 0, made.stderr
    (token,) = made.stdout.splitlines()
    assert secret.is_well_formed(token)
    assert token not in made.stderr
    assert "JOB_SERVICE_REQUIRE_TOKENS=true" in made.stderr

    revoked = _run(data_dir, "token", "revoke", "1", **database)
    listed = _run(data_dir, "token", "list", **database)
    assert (revoked.returncode, listed.returncode) == (0, 0)
    _, ada = listed.stdout.splitlines()
    assert ada.split()[:3] == ["1", "ada", "client"]
    assert f"user {user}" in ada
    assert ada.split()[-2:] == ["never", "revoked"]
    assert token not in listed.stdout


def test_a_token_that_makes_no_sense_is_not_made(data_dir: Path) -> None:
    refused = _run(data_dir, "token", "create", "ada", "--role", "client")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "must name its user" in refused.stderr
    assert not data_dir.exists()


def test_tokens_are_added_to_a_file_that_nobody_else_may_read(
    data_dir: Path, tmp_path: Path
) -> None:
    path = tmp_path / "tokens"
    options = ("--to-file", str(path), "--days", "3")
    made = [
        _run(data_dir, "token", "create", "box", "--role", "worker", "--worker", "box-1", *options),
        _run(data_dir, "token", "create", "box-2", "--role", "worker", *options),
        _run(data_dir, "token", "create", "pool", "--role", "worker", "--worker", "*", *options),
        _run(data_dir, "token", "create", "on-call", "--role", "admin", *options),
    ]
    assert [one.returncode for one in made] == [0, 0, 0, 0]
    assert path.stat().st_mode & 0o777 == 0o600
    found = tokens_file.read(path)
    tokens = [one.stdout.strip() for one in made]
    kept = [found[secret.digest(token)].token for token in tokens]
    assert [(one.role, one.worker) for one in kept] == [
        ("worker", "box-1"), ("worker", "box-2"), ("worker", ""), ("admin", "")
    ]  # fmt: skip
    assert not any(token in path.read_text() for token in tokens)
    assert not data_dir.exists()


def test_former_tables_are_told_of_by_serve_and_imported_by_migrate(
    empty_database_url: str, data_dir: Path
) -> None:
    former_tables.build(empty_database_url, "C")
    settings = {"DATABASE_URL": empty_database_url, "MIGRATE": "true"}
    before = former_tables.content(empty_database_url)
    served = _run(data_dir, "serve", **settings)
    assert served.returncode == 1
    assert "job-service migrate" in served.stderr
    assert len(served.stderr.splitlines()) == 1
    assert former_tables.content(empty_database_url) == before

    migrated = _run(data_dir, "migrate", **settings)
    assert migrated.returncode == 0, migrated.stderr
    assert "Found: state C" in migrated.stdout
    assert "verified" in migrated.stdout
    assert "schema at revision" in migrated.stdout
    assert _run(data_dir, "migrate", **settings).stdout.startswith("schema at revision")
    again = _run(data_dir, "import-legacy", **settings)
    assert again.returncode == 0, again.stderr
