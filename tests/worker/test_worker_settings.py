"""Settings of the worker: read from the environment, refused by name, shown without secrets."""

import os
from datetime import timedelta
from pathlib import Path

import pytest

from comfy_worker.settings import LogFormat, SettingsError, load, unknown_names


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("COMFY_WORKER_")]:
        monkeypatch.delenv(name)


def test_everything_has_a_default() -> None:
    settings = load()
    assert settings.job_service == "127.0.0.1:50051"
    assert settings.comfyui_urls == {"127.0.0.1-8188": "http://127.0.0.1:8188"}
    assert settings.depth == 2
    assert settings.labels == ("comfyui",)
    assert settings.name
    assert not settings.uses_tls


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("certificate")
    given = {
        "JOB_SERVICE": "[::1]:443",
        "TOKEN": "secret",
        "TLS_CA": str(authority),
        "COMFYUI_URLS": " http://a:8188 , left=https://user:pw@b/comfy ,http://[::1]:1/",
        "NAME": "box-1",
        "DEPTH": "3",
        "LABELS": "comfyui, kerniegen",
        "GRACE": "2.5",
        "OUTCOME_HOLD": "PT2H",
        "LOG_FORMAT": "json",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"COMFY_WORKER_{name}", value)
    settings = load()
    assert settings.comfyui_urls == {
        "a-8188": "http://a:8188",
        "left": "https://user:pw@b/comfy",
        "--1-1": "http://[::1]:1/",
    }
    assert settings.labels == ("comfyui", "kerniegen")
    assert settings.grace == timedelta(seconds=2.5)
    assert settings.outcome_hold == timedelta(hours=2)
    assert settings.log_format is LogFormat.JSON
    assert settings.uses_tls
    shown = settings.shown()
    assert "left=https://user:***@b/comfy" in shown["COMFY_WORKER_COMFYUI_URLS"]
    assert not any("secret" in value or "pw@" in value for value in shown.values())


def test_the_scheme_switches_tls_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFY_WORKER_JOB_SERVICE", "grpcs://jobs.example:443")
    settings = load()
    assert settings.uses_tls
    assert settings.job_service_address == "jobs.example:443"


def test_a_token_is_given_in_one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFY_WORKER_TOKEN", "s3cret")
    monkeypatch.setenv("COMFY_WORKER_TOKEN_FILE", __file__)
    with pytest.raises(SettingsError, match="give this or") as error:
        load()
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    ("address", "more"),
    [
        ("localhost:50051", {}),
        ("127.0.0.2:50051", {}),
        ("[::1]:50051", {}),
        ("grpcs://jobs.example:443", {}),
        ("jobs.example:50051", {"TLS_CA": __file__}),
        ("jobs.example:50051", {"TOKEN_IN_CLEAR": "true"}),
    ],
)
def test_where_a_token_may_go(
    address: str, more: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"JOB_SERVICE": address, "TOKEN": "s3cret", **more}
    for name, value in settings.items():
        monkeypatch.setenv(f"COMFY_WORKER_{name}", value)
    assert load().token is not None


@pytest.mark.parametrize("told", [{"TOKEN": "s3cret"}, {"TOKEN_FILE": __file__}])
def test_a_token_does_not_leave_the_machine_in_the_clear_by_itself(
    told: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFY_WORKER_JOB_SERVICE", "jobs.example:50051")
    load()
    for name, value in told.items():
        monkeypatch.setenv(f"COMFY_WORKER_{name}", value)
    with pytest.raises(SettingsError, match=r"COMFY_WORKER_TOKEN: .*in the clear") as error:
        load()
    assert len(str(error.value).splitlines()) == 2
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("JOB_SERVICE", "localhost", "must be host:port"),
        ("JOB_SERVICE", "::1:50051", "must be host:port"),
        ("JOB_SERVICE", "host:70000", "1 to 65535"),
        ("COMFYUI_URLS", "ftp://a", "http://127.0.0.1:8188"),
        ("COMFYUI_URLS", "http://a:99999999", "http://127.0.0.1:8188"),
        ("COMFYUI_URLS", ",", "at least one ComfyUI"),
        ("COMFYUI_URLS", "http://a:1,http://a:1", "names two ComfyUIs"),
        ("COMFYUI_URLS", "my gpu=http://a:1", "letters, digits"),
        ("NAME", "a b", "letters, digits"),
        ("DEPTH", "0", "greater than or equal to 1"),
        ("GRACE", "soon", "must be seconds"),
        ("GRACE", "-1", "must not be less than 0"),
        ("LABELS", " , ", "at least 1"),
        ("JOB_SERVICE", "https://host:443", "must be host:port"),
        ("TLS_CA", "/nowhere/ca.pem", "is no file"),
        ("TLS_CERT", __file__, "goes together"),
        ("TOKEN_FILE", "/nowhere/token", "is no file"),
        ("MAX_OUTPUT_BYTES", "x", "valid integer"),
        ("PING_INTERVAL", "1", "at least 10 seconds"),
        ("METRICS_LISTEN", "9091", "must be host:port"),
    ],
)
def test_what_cannot_be_used_is_named(
    name: str, value: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"COMFY_WORKER_{name}", value)
    with pytest.raises(SettingsError) as refused:
        load()
    assert f"COMFY_WORKER_{name}: " in str(refused.value)
    assert reason in str(refused.value)


def test_a_name_that_is_no_setting_is_pointed_out() -> None:
    names = ["COMFY_WORKER_COMFYUI_URL", "COMFY_WORKER_NAME", "PATH", "COMFY_WORKER_XYZZY"]
    assert unknown_names(names) == [
        "COMFY_WORKER_COMFYUI_URL is no setting; did you mean COMFY_WORKER_COMFYUI_URLS?",
        "COMFY_WORKER_XYZZY is no setting",
    ]
