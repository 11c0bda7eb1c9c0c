"""Reads the settings from the environment."""

import difflib
import re
from collections.abc import Iterable

from pydantic import ValidationError

from job_service.cannot_run import CannotRunError
from job_service.settings.settings import PREFIX, Settings

# What Kubernetes sets by itself in every pod near a service named job-service.
FROM_KUBERNETES = re.compile(r"JOB_SERVICE_(SERVICE_|PORT($|_))")


class SettingsError(CannotRunError):
    """Settings that cannot be used, a line for each."""


def load() -> Settings:
    """Read the environment.

    Raises:
        SettingsError: something in it cannot be used; says what and why, quoting no values.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = (
            ": ".join(filter(None, (_variable(problem["loc"]), _reason(problem["msg"]))))
            for problem in error.errors()
        )
        raise SettingsError("\n  ".join(["these settings cannot be used:", *lines])) from None


def unknown_names(names: Iterable[str]) -> list[str]:
    """Say of each environment variable that looks like a setting and is none, what it could be."""
    known = [name.upper() for name in Settings.model_fields]
    hints = []
    for name in sorted(names):
        setting = name.removeprefix(PREFIX)
        if setting in (name, *known) or FROM_KUBERNETES.match(name):
            continue
        close = difflib.get_close_matches(setting, known, n=1)
        hint = f"; did you mean {PREFIX}{close[0]}?" if close else ""
        hints.append(f"{name} is no setting{hint}")
    return hints


def _variable(location: tuple[int | str, ...]) -> str:
    return f"{PREFIX}{'_'.join(map(str, location)).upper()}" if location else ""


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ")
