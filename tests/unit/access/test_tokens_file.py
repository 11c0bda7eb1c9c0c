"""The tokens file: read as it is written, and refused in words that quote none of it."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from job_service.access import tokens_file
from job_service.access.token import problem
from job_service.access.tokens_file import TokensFileError
from job_service.jobs.principal import Role

DIGEST = bytes(range(32))
HEX = DIGEST.hex()

_names = st.from_regex(r"[A-Za-z0-9._-]{1,63}", fullmatch=True)
_times = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=_names,
    role=st.sampled_from(Role),
    user_id=st.none() | st.uuids(),
    worker=st.just("") | _names,
    expires_at=st.none() | _times,
)
def test_a_line_says_what_it_was_made_of(
    tmp_path: Path,
    name: str,
    role: Role,
    user_id: UUID | None,
    worker: str,
    expires_at: datetime | None,
) -> None:
    path = tmp_path / "tokens"
    line = tokens_file.line(
        name, role, DIGEST, user_id=user_id, worker=worker, expires_at=expires_at
    )
    path.write_text(f"# tokens\n\n  {line}  # {name}\n")
    wrong = problem(name, role, user_id, worker)
    if wrong is not None:
        with pytest.raises(TokensFileError, match=r"line 3"):
            tokens_file.read(path)
        return
    (digest, found), *others = tokens_file.read(path).items()
    assert not others
    assert digest == DIGEST
    token = found.token
    assert (token.label, token.role, token.user_id, token.worker) == (name, role, user_id, worker)
    assert found.expires_at == (expires_at and expires_at.replace(microsecond=0))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("web", "a name, a role and sha256"),
        (f"web owner sha256:{HEX}", "must be one of client, gateway, worker, admin"),
        ("web gateway genjobs_the-token-itself", "must be sha256:"),
        (f"web gateway sha256:{HEX.upper()}", "lower case"),
        (f"web gateway sha256:{HEX[1:]}", "64 hexadecimal digits"),
        (f"ada client sha256:{HEX}", "must name its user"),
        (f"ada client sha256:{HEX} user=ada", "must be a UUID"),
        (f"box worker sha256:{HEX}", "must say worker=NAME, or worker=* for any"),
        (f"web gateway sha256:{HEX} worker=*", "only a worker's token"),
        (f"web gateway sha256:{HEX} colour=blue", "each once"),
        (f"web admin sha256:{HEX} expires=2027-01-01T00:00Z expires=2028-01-01T00:00Z", "once"),
        (f"web gateway sha256:{HEX} expires=2027-01-01", "with its zone"),
        (f"web gateway sha256:{HEX} expires=never", "with its zone"),
        (f"web/2 gateway sha256:{HEX}", "the name must be"),
        (f"one admin sha256:{HEX}\ntwo admin sha256:{HEX}", "another line has the same token"),
    ],
)
def test_what_cannot_be_used_is_named_by_its_line(
    tmp_path: Path, line: str, complaint: str
) -> None:
    path = tmp_path / "tokens"
    path.write_text(line)
    with pytest.raises(TokensFileError, match=r"line \d: ") as error:
        tokens_file.read(path)
    assert complaint in str(error.value)
    assert HEX not in str(error.value)
    assert "token-itself" not in str(error.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TokensFileError, match=r"No such file"):
        tokens_file.read(tmp_path / "missing")
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(TokensFileError, match=r"not UTF-8"):
        tokens_file.read(tmp_path / "binary")
