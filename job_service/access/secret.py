"""The text of a token: what it looks like, how one is drawn, what is kept of it."""

import hashlib
import re
import secrets
import string
import zlib
from typing import Final

#: For secret scanners: ``genjobs_[0-9A-Za-z]{49}``.
PREFIX: Final = "genjobs_"

_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_BYTES: Final = 32
_RANDOM_DIGITS: Final = 43  # the least that hold 256 bits
_CHECK_DIGITS: Final = 6  # the least that hold 32 bits
_FORM: Final = re.compile(
    rf"{PREFIX}[0-9A-Za-z]{{{_RANDOM_DIGITS}}}[0-9A-Za-z]{{{_CHECK_DIGITS}}}", re.ASCII
)


def drawn() -> str:
    """A new token: 256 random bits between the prefix and a checksum."""
    number = int.from_bytes(secrets.token_bytes(_RANDOM_BYTES))
    body = PREFIX + _digits(number, _RANDOM_DIGITS)
    return body + _checksum(body)


def is_well_formed(token: str) -> bool:
    """Whether this can be a token: what is mistyped or cut off cannot."""
    return (
        _FORM.fullmatch(token) is not None
        and _checksum(token[:-_CHECK_DIGITS]) == token[-_CHECK_DIGITS:]
    )


def digest(token: str) -> bytes:
    """What is stored of a token and looked up: its SHA-256.

    A password's hash must be slow because passwords can be guessed; 256 random bits cannot. Looking
    up the digest of what was sent compares no secret byte by byte, so its time tells nothing.
    """
    return hashlib.sha256(token.encode()).digest()


def _checksum(body: str) -> str:
    return _digits(zlib.crc32(body.encode()), _CHECK_DIGITS)


def _digits(number: int, count: int) -> str:
    digits = []
    for _ in range(count):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
