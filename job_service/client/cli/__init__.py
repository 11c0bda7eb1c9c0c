"""The ``genjobs`` command: one file per command, wired together in ``app``."""

from job_service.client.cli.app import main

__all__ = ["main"]
