"""The prose of all pages has one width."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("width", ROOT / "docs" / "width.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", tuple(script().pages()), ids=lambda page: page.name)
def test_a_page_has_the_width(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert script().wrapped(text) == text, "run docs/width.py"


def test_code_tables_and_lists_stay_what_they_are() -> None:
    kept = "# A" + " long" * 40 + "\n\n```\n" + "x " * 90 + "\n```\n\n| a |\n| " + "b " * 90 + "|\n"
    assert script().wrapped(kept) == kept
    item = "* " + "word " * 40 + "\n* two\n"
    first, second, third, _ = script().wrapped(item).split("\n")
    assert len(first) <= 120
    assert second.startswith("  word")
    assert third == "* two"


def test_no_line_begins_with_what_would_mean_something_else() -> None:
    text = "word " * 23 + "four - five 12. six"
    assert script().wrapped(text).startswith("word " * 23 + "four -")
