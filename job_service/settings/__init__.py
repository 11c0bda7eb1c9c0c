"""Settings of job_service: environment variables ``JOB_SERVICE_…``, validated at start."""

from job_service.settings.environment import SettingsError, load, unknown_names
from job_service.settings.settings import PREFIX, Settings
from job_service.settings.shown import without_secrets
from job_service.settings.values import LogFormat, LogLevel, UnknownModels

__all__ = [
    "PREFIX",
    "LogFormat",
    "LogLevel",
    "Settings",
    "SettingsError",
    "UnknownModels",
    "load",
    "unknown_names",
    "without_secrets",
]
