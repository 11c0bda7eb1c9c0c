"""Writes the tables of all settings in ``docs/operations.md`` from the settings classes.

``python docs/settings_table.py [FILE]``. The same classes give the same bytes.
"""

import re
import sys
from pathlib import Path
from typing import Final

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from comfy_worker.settings import Settings as WorkerSettings
from job_service.settings import Settings as ServiceSettings
from job_service.settings.shown import as_text

DEFAULT_FILE: Final = Path(__file__).with_name("operations.md")
_TABLES: Final[dict[str, type[BaseSettings]]] = {
    "job_service": ServiceSettings,
    "comfy_worker": WorkerSettings,
}


def with_tables(page: str) -> str:
    """The page, with a table between each pair of its marks."""
    for name, settings in _TABLES.items():
        begin, end = f"<!-- settings of {name} -->", f"<!-- end of settings of {name} -->"
        between = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        before, *others = between.split(page)
        if len(others) != 1:
            raise ValueError(f"there must be one {begin} with its end")
        page = f"{before}{begin}\n{_table(settings)}\n{end}{others[0]}"
    return page


def _table(settings: type[BaseSettings]) -> str:
    prefix = settings.model_config["env_prefix"]
    rows = [
        f"| `{prefix}{name.upper()}` | {_default(field)} | {_cell(field.description or '')} |"
        for name, field in settings.model_fields.items()
    ]
    return "\n".join(["| variable | default | |", "|---|---|---|", *rows])


def _default(field: FieldInfo) -> str:
    """The default as one would write it; what depends on the machine, the description says."""
    if field.default_factory is not None:
        return ""
    text = as_text(field.default)
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_FILE
    target.write_text(with_tables(target.read_text(encoding="utf-8")), encoding="utf-8")
