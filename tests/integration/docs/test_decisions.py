"""Decisions that code depends on are linked from the line that they explain."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
RECORDS = ROOT / "docs" / "explanation" / "decisions"
LINK = re.compile(r"# Why: (docs/explanation/decisions/[\w-]+\.md)$", re.M)


def test_each_record_is_linked_from_code_and_each_link_leads_to_one() -> None:
    linked = {
        ROOT / link
        for folder in ("embshare", "adapters", "tasks")
        for path in (ROOT / folder).rglob("*.py")
        for link in LINK.findall(path.read_text())
    }
    assert linked == {path for path in RECORDS.glob("*.md") if path.name != "index.md"}


def test_each_record_says_context_decision_and_consequence() -> None:
    for path in RECORDS.glob("*.md"):
        text = path.read_text().lower()
        wanted = ("context", "decision", "consequence")
        assert path.name == "index.md" or all(word in text for word in wanted), path.name
