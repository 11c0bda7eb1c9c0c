"""Settings are read, checked and shown as documented."""

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from job_service.access.exposure import PLAIN_WORDS
from job_service.settings import Settings, SettingsError, load, unknown_names

PASSWORD = "s3cret/:@word"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"JOB_SERVICE_{name.upper()}", raising=False)


def test_defaults_need_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)

    settings = load()

    assert settings.database_url is None
    assert settings.listen == "127.0.0.1:50051"
    assert settings.lease_ttl == timedelta(seconds=30)
    assert settings.attempt_timeout == timedelta(minutes=15)
    assert settings.artifact_store == (settings.data_dir / "artifacts").as_uri()
    assert settings.embedded_postgres_directory == settings.data_dir / "postgresql"
    assert (settings.limits.max_dimension, settings.limits.max_batch_size) == (2048, 8)


def test_the_artifacts_follow_the_data_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_SERVICE_DATA_DIR", "somewhere with spaces")

    settings = load()

    assert settings.data_dir == Path("somewhere with spaces").absolute()
    assert settings.artifact_store.endswith("/somewhere%20with%20spaces/artifacts")


def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_SERVICE_DATABASE_URL", "")
    monkeypatch.setenv("JOB_SERVICE_ARTIFACT_STORE", "")

    assert load().database_url is None
    assert load().artifact_store.startswith("file:///")


def test_everything_is_kept_for_ever_unless_it_is_said_how_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert (load().artifact_retention, load().job_retention) == (None, None)
    monkeypatch.setenv("JOB_SERVICE_ARTIFACT_RETENTION", "2592000")
    monkeypatch.setenv("JOB_SERVICE_JOB_RETENTION", "P1000D")
    assert load().artifact_retention == timedelta(days=30)
    assert load().job_retention == timedelta(days=1000)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_spelling_of_a_postgresql_url_is_taken(scheme: str) -> None:
    settings = Settings(database_url=f"{scheme}://ada:pw@db:5433/jobs?sslmode=require")

    assert settings.database_url == "postgresql+psycopg://ada:pw@db:5433/jobs?sslmode=require"


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("DATABASE_URL", "mysql://h/d", "must start with postgresql://"),
        ("DATABASE_URL", "postgresql://h:port/d", "must be a URL such as"),
        ("LISTEN", "50051", "must be host:port"),
        ("LISTEN", "::1:50051", "must be host:port"),
        ("LISTEN", "localhost:65536", "at most 65535"),
        ("LISTEN", "localhost:", "must be host:port"),
        ("ARTIFACT_STORE", "/var/pictures", "must be a URL such as"),
        ("LEASE_TTL", "0", "more than 0 seconds"),
        ("LEASE_TTL", "-3", "more than 0 seconds"),
        ("KEEP_ALIVE", "soon", "must be seconds"),
        ("ATTEMPT_TIMEOUT", "nan", "must be seconds"),
        ("JOB_RETENTION", "30", "at least 3600 seconds"),
        ("ARTIFACT_RETENTION", "1e99", "must be seconds"),
        ("ARTIFACT_RETENTION", "9999999999", "at most a hundred years"),
        ("MAX_DIMENSION", "8200", "8192"),
        ("MAX_DIMENSION", "100", "multiple of 8"),
        ("MAX_BATCH_SIZE", "0", "greater than or equal to 1"),
        ("DATABASE_POOL_SIZE", "many", "valid integer"),
        ("MAX_MESSAGE_BYTES", "1000", "greater than or equal to 4194304"),
        ("MAX_METADATA_BYTES", "1", "greater than or equal to 4096"),
        ("MAX_HELD_CALLS", "1", "greater than or equal to 8"),
        ("MAX_STREAMS_PER_PRINCIPAL", "0", "greater than or equal to 1"),
        ("CREATE_RATE_PER_USER", "-1", "greater than or equal to 0"),
        ("CREATE_RATE_PER_USER", "nan", "finite number"),
        ("CREATE_BURST_PER_USER", "0", "greater than or equal to 1"),
        ("MAX_CONNECTION_AGE", "0", "more than 0 seconds"),
        ("PING_INTERVAL", "often", "must be seconds"),
        ("METRICS_LISTEN", "9090", "must be host:port"),
        ("LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("LOG_FORMAT", "xml", "'console' or 'json'"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, complaint: str
) -> None:
    monkeypatch.setenv(f"JOB_SERVICE_{name}", value)

    with pytest.raises(SettingsError) as refused:
        load()

    assert f"JOB_SERVICE_{name}: " in str(refused.value)
    assert complaint in str(refused.value)


def test_all_mistakes_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_SERVICE_LISTEN", "nowhere")
    monkeypatch.setenv("JOB_SERVICE_LEASE_TTL", "never")

    with pytest.raises(SettingsError) as refused:
        load()

    assert "JOB_SERVICE_LISTEN: " in str(refused.value)
    assert "JOB_SERVICE_LEASE_TTL: " in str(refused.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("2.5", 2.5), ("PT15M", 900), ("00:01:30", 90), (" 7 ", 7)],
)
def test_durations_are_plain_seconds_or_spelled_out(
    monkeypatch: pytest.MonkeyPatch, text: str, seconds: float
) -> None:
    monkeypatch.setenv("JOB_SERVICE_LEASE_TTL", text)

    assert load().lease_ttl == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:s3cret%2F%3A%40word@db/jobs",
        "postgresql://ada@db/jobs?password=s3cret%2F%3A%40word",
        "postgresql://ada@db:port/jobs?password=s3cret%2F%3A%40word",
    ],
)
def test_the_password_is_never_shown(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("JOB_SERVICE_DATABASE_URL", url)
    monkeypatch.setenv("JOB_SERVICE_LISTEN_DATABASE_URL", url)

    try:
        settings = load()
    except SettingsError as error:
        shown = str(error)
    else:
        assert PASSWORD in (settings.database_url or "").replace("%2F", "/").replace(
            "%3A", ":"
        ).replace("%40", "@")
        shown = f"{settings.shown()} {settings!r} {settings}"

    assert "s3cret" not in shown


def test_other_replicas_are_heard_of_by_way_of_a_url_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JOB_SERVICE_DATABASE_URL", "postgresql://pgbouncer/jobs")
    assert load().listens_to == "postgresql+psycopg://pgbouncer/jobs"
    monkeypatch.setenv("JOB_SERVICE_LISTEN_DATABASE_URL", "postgresql://db/jobs")
    assert load().listens_to == "postgresql+psycopg://db/jobs"
    assert load().database_url == "postgresql+psycopg://pgbouncer/jobs"


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        Settings().listen = "0.0.0.0:1"


def test_misspelled_settings_are_pointed_out() -> None:
    names = ["JOB_SERVICE_LISTN", "JOB_SERVICE_LISTEN", "JOB_SERVICE_ZZZ", "PATH"]

    assert unknown_names(names) == [
        "JOB_SERVICE_LISTN is no setting; did you mean JOB_SERVICE_LISTEN?",
        "JOB_SERVICE_ZZZ is no setting",
    ]


def test_what_kubernetes_sets_is_not_taken_for_a_setting() -> None:
    names = ["JOB_SERVICE_SERVICE_HOST", "JOB_SERVICE_PORT", "JOB_SERVICE_PORT_50051_TCP_ADDR"]

    assert unknown_names(names) == []


@given(st.text())
def test_a_listen_address_is_taken_or_refused_never_mangled(text: str) -> None:
    try:
        settings = Settings(listen=text)
    except ValidationError:
        return
    host, _, port = settings.listen.rpartition(":")
    assert settings.listen == text
    assert host
    assert 0 <= int(port) <= 65535


@pytest.mark.parametrize(
    ("changed", "tokens", "reflection"),
    [
        ({}, False, True),
        ({"REQUIRE_TOKENS": "true"}, True, True),
        ({"LISTEN": "0.0.0.0:1"}, True, True),
        ({"LISTEN": "0.0.0.0:1", "INSECURE_LISTEN": PLAIN_WORDS.upper()}, False, False),
        ({"REFLECTION": "false"}, False, False),
        ({"TOKENS_FILE": "tokens"}, True, True),
    ],
)
def test_who_is_asked_for_a_token_and_shown_what_there_is(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], tokens: bool, reflection: bool
) -> None:
    for name, value in changed.items():
        monkeypatch.setenv(f"JOB_SERVICE_{name}", value)
    settings = load()
    assert (settings.asks_for_tokens, settings.serves_reflection) == (tokens, reflection)
    assert (settings.why_not_listen() is None) == (
        "INSECURE_LISTEN" in changed or "LISTEN" not in changed
    )


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("TLS_CERT", "TLS_CERT: goes together with JOB_SERVICE_TLS_KEY"),
        ("TLS_KEY", "TLS_CERT: goes together with JOB_SERVICE_TLS_KEY"),
        ("TLS_CLIENT_CA", "TLS_CLIENT_CA: needs JOB_SERVICE_TLS_CERT"),
    ],
)
def test_certificates_come_with_their_keys(
    monkeypatch: pytest.MonkeyPatch, name: str, complaint: str
) -> None:
    monkeypatch.setenv(f"JOB_SERVICE_{name}", "file.pem")
    with pytest.raises(SettingsError, match=f"JOB_SERVICE_{complaint}"):
        load()


def test_no_secret_of_the_artifact_store_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"s3://key:{PASSWORD.replace('/', '')}@bucket/prefix?region=x&secret_access_key=s3cret"
    monkeypatch.setenv("JOB_SERVICE_ARTIFACT_STORE", url)
    shown = load().shown()["JOB_SERVICE_ARTIFACT_STORE"]
    assert shown == "s3://***@bucket/prefix?region=***&secret_access_key=***"
    assert "s3cret" not in repr(load())
