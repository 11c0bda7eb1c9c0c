"""What may be listened on, and whether tokens are asked for."""

import pytest

from job_service.access.exposure import asks_for_tokens, is_loopback, why_not

LOOPBACK = ["127.0.0.1:1", "127.8.9.1:1", "[::1]:1", "localhost:1"]
BEYOND = ["0.0.0.0:1", "[::]:1", "192.168.0.7:1", "jobs.example:1", "localhost.example:1"]


@pytest.mark.parametrize("listen", LOOPBACK)
def test_this_machine_alone_needs_no_protection(listen: str) -> None:
    assert is_loopback(listen)
    assert not asks_for_tokens(listen, required=None, has_file=False, plain_words=False)
    assert why_not(listen, tls=False, tokens=False, plain_words=False) is None


@pytest.mark.parametrize("listen", BEYOND)
def test_beyond_it_both_protections_or_plain_words(listen: str) -> None:
    assert not is_loopback(listen)
    assert asks_for_tokens(listen, required=None, has_file=False, plain_words=False)
    assert why_not(listen, tls=True, tokens=True, plain_words=False) is None
    assert why_not(listen, tls=False, tokens=False, plain_words=True) is None
    without_tls = why_not(listen, tls=False, tokens=True, plain_words=False)
    assert without_tls is not None
    assert "TLS" in without_tls
    assert "REQUIRE_TOKENS" not in without_tls
    without_tokens = why_not(listen, tls=True, tokens=False, plain_words=False)
    assert without_tokens is not None
    assert "REQUIRE_TOKENS" in without_tokens
    assert "TLS_CERT" not in without_tokens


def test_tokens_are_asked_for_as_it_is_said_or_where_there_is_a_file() -> None:
    assert asks_for_tokens("127.0.0.1:1", required=None, has_file=True, plain_words=False)
    assert asks_for_tokens("127.0.0.1:1", required=True, has_file=False, plain_words=False)
    assert not asks_for_tokens("127.0.0.1:1", required=False, has_file=True, plain_words=False)
    assert asks_for_tokens("0.0.0.0:1", required=None, has_file=True, plain_words=True)
    assert not asks_for_tokens("0.0.0.0:1", required=None, has_file=False, plain_words=True)
