"""The page of what can go wrong is what the table of kinds says."""

import importlib.util
from pathlib import Path
from types import ModuleType

from embshare.checks.kinds import KINDS, SUBJECTS

ROOT = Path(__file__).resolve().parents[3]


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("page", ROOT / "docs" / "troubleshooting.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_table_says() -> None:
    found = (ROOT / "docs" / "how-to" / "troubleshooting.md").read_text(encoding="utf-8")
    assert found == script().page(), "run docs/troubleshooting.py again"


def test_every_kind_is_on_the_page_and_can_be_found() -> None:
    page = (ROOT / "docs" / "how-to" / "troubleshooting.md").read_text(encoding="utf-8")
    code = "".join(path.read_text() for path in (ROOT / "embshare").glob("check*/*.py"))
    code += (ROOT / "embshare" / "check.py").read_text()
    for name, kind in KINDS.items():
        assert f"Found as `{name}`" in page
        assert kind.subject in SUBJECTS
        assert code.count(f'"{name}"') >= 2, f"nothing finds `{name}`"
    assert len({kind.symptom for kind in KINDS.values()}) == len(KINDS)
