"""The command job-service: what it prints, what it refuses and how it exits."""

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from job_service.store import migrate

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
    assert after.stdout.count("ok    ") == 3


def test_check_reports_what_it_cannot_reach(tmp_path: Path, data_dir: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()

    checked = _run(
        data_dir,
        "check",
        DATABASE_URL="postgresql://ada:s3cret@127.0.0.1:1/jobs",
        ARTIFACT_STORE=(in_the_way / "store").as_uri(),
    )

    assert checked.returncode == 1
    assert "FAILED  database: cannot reach the database" in checked.stdout
    assert "FAILED  artifact store: file://" in checked.stdout
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
