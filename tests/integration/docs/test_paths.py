"""Files that the documentation names are there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
NAMED = re.compile(
    r"`((?:embshare|adapters|tasks|tests|docs|benchmarks|plan|ops|blocks)/[\w./-]+)`"
)
PAGES = sorted({*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"})
MADE_UP = {"tasks/tagging/"}  # the package that the example of a task would be


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_files_that_are_there(page: Path) -> None:
    named = set(NAMED.findall(page.read_text(encoding="utf-8"))) - MADE_UP
    assert [path for path in sorted(named) if not is_there(path)] == []


def is_there(path: str) -> bool:
    """Whether a file or module is in the repository or in the core."""
    return any(
        (ROOT / root / f"{path}{end}").exists() for root in ("", "embshare") for end in ("", ".py")
    )
