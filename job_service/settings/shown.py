"""How values are shown: without what is secret in them."""

import re
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from sqlalchemy import URL


def without_secrets(url: str) -> str:
    """Render an artifact store's URL without a password or keys that stand in it."""
    parts = urlsplit(url)
    _, signed_in, place = parts.netloc.rpartition("@")
    query = re.sub(r"=[^&]*", "=***", parts.query)
    return urlunsplit(parts._replace(netloc=f"***@{place}" if signed_in else place, query=query))


def without_password(url: URL) -> str:
    """Render a database URL with its password masked, also one given as a parameter."""
    if "password" in url.query:
        url = url.update_query_dict({"password": "***"})
    return url.render_as_string(hide_password=True)


def as_text(value: Any) -> str:
    """A value as it would be written in the environment."""
    if value is None:
        return ""  # which is read as not set
    if isinstance(value, timedelta):
        return f"{value.total_seconds():.15g}"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
