"""Tables in the documentation are what the result files say."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]


def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", tables().PAGES, ids=lambda page: page.name)
def test_a_page_shows_the_results(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert tables().MARKED.search(text), "no table in this page"
    assert tables().filled(text) == text, "run docs/tables.py again"


def test_every_table_is_in_a_page() -> None:
    shown = {
        hit[2] for page in tables().PAGES for hit in tables().MARKED.finditer(page.read_text())
    }
    assert shown == set(tables().TABLES)
