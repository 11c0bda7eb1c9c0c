"""How an import is to be done."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to import.

    ``running``: what becomes of jobs that were at work, pending or failed. ``max_running``: jobs of
    a user that may run at once. ``checkpoint``: for queued pictures that name none.
    ``artifacts_root``: where files are looked for, to be taken into the store ``artifact_store``.
    """

    url: str
    source_url: str | None = None
    dry_run: bool = False
    batch: int = 10_000
    cutover: bool = False
    running: str = "pending"
    artifacts_root: Path | None = None
    artifact_store: str = ""
    id_headroom: int = 1_000_000
    max_running: int | None = None
    checkpoint: str | None = None
