"""The former system's second table and class have no name in ours but where rows come from it."""

import re
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[2]
_NAME: Final = re.compile("comfyui_?generation_?request", re.IGNORECASE)
_ALLOWED: Final = (
    "job_service/legacy/",
    "tests/legacy_import/",
    "tests/former_tables.py",
    "tests/service/test_import_cutover.py",
    "tests/service/test_import_from.py",
    "docs/",
    "CHANGELOG.md",
)
_OURS: Final = ("comfy_worker", "docs", "job_service", "migrations", "protos", "tests", ".")


def test_the_former_request_table_is_named_by_the_importer_only() -> None:
    sources = {
        path
        for folder in _OURS
        for path in (_ROOT / folder).glob("*" if folder == "." else "**/*")
        if path.is_file() and not {"node_modules", "__pycache__"} & set(path.parts)
    }
    assert _ROOT / "job_service" / "cli.py" in sources
    naming = {
        path.relative_to(_ROOT).as_posix()
        for path in sources
        if _NAME.search(path.read_text(encoding="utf-8", errors="replace"))
        or _NAME.search(path.name)
    }
    assert [name for name in naming if not name.startswith(_ALLOWED)] == []
    assert any(name.startswith("tests/legacy_import/") for name in naming), "the search finds"
