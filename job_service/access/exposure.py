"""What may be listened on: beyond this machine only with TLS and tokens, or told in plain words."""

import ipaddress
from typing import Final

#: What an operator has to write to listen beyond this machine without TLS or without tokens.
PLAIN_WORDS: Final = "I understand that whoever reaches this port can read and change every job"


def is_loopback(listen: str) -> bool:
    """Whether only this machine reaches an address (``host:port``)."""
    host = listen.rpartition(":")[0].removeprefix("[").removesuffix("]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def asks_for_tokens(
    listen: str, *, required: bool | None, has_file: bool, plain_words: bool
) -> bool:
    """Whether callers need a token, where it is not said: with a file of tokens, or beyond here."""
    if required is not None:
        return required
    return has_file or not (is_loopback(listen) or plain_words)


def why_not(listen: str, *, tls: bool, tokens: bool, plain_words: bool) -> str | None:
    """Why this may not be listened on, and what to do about it; None: it may."""
    if is_loopback(listen) or plain_words or (tls and tokens):
        return None
    missing = [
        *([] if tls else ["TLS (JOB_SERVICE_TLS_CERT and JOB_SERVICE_TLS_KEY)"]),
        *([] if tokens else ["tokens (JOB_SERVICE_REQUIRE_TOKENS is false)"]),
    ]
    return (
        f"others can reach {listen}, and there is no protection by {' or '.join(missing)}: set"
        f' that, or listen on 127.0.0.1, or set JOB_SERVICE_INSECURE_LISTEN="{PLAIN_WORDS}"'
    )
