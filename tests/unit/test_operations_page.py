"""docs/operations.md says what the settings are, and names nothing that there is not."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from comfy_worker import settings as worker
from job_service import settings as service

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "operations.md"


def test_its_tables_are_those_of_the_settings_classes(tmp_path: Path) -> None:
    written = tmp_path / "operations.md"
    shutil.copy(PAGE, written)
    subprocess.run([sys.executable, DOCS / "settings_table.py", written], check=True, timeout=60)
    assert written.read_text() == PAGE.read_text(), "make docs"


def test_every_setting_has_a_row_that_says_what_it_is() -> None:
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| .*? \| (.+) \|$", PAGE.read_text(), re.MULTILINE))
    names = {service.PREFIX + name.upper() for name in service.Settings.model_fields} | {
        worker.PREFIX + name.upper() for name in worker.Settings.model_fields
    }
    assert rows.keys() == names
    assert all(len(what) > 3 for what in rows.values())


def test_it_and_the_threat_model_name_settings_that_there_are() -> None:
    for page in (PAGE, DOCS.parent / "SECURITY.md"):
        found = set(re.findall(r"\b(?:JOB_SERVICE|COMFY_WORKER)_[A-Z_]*[A-Z]\b", page.read_text()))
        assert found
        assert not service.unknown_names(found)
        assert not worker.unknown_names(found)


def test_the_threat_model_names_tests_that_there_are() -> None:
    text = (DOCS.parent / "SECURITY.md").read_text()
    named = re.findall(r"`(tests/[\w/.]+)`", text)
    assert len(named) > 20
    assert [path for path in named if not (DOCS.parent / path).exists()] == []
