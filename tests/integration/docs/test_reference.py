"""What can be imported is in the reference, and the other way round."""

import re
from pathlib import Path

import embshare
import embshare.errors
import embshare.tasks
from embshare.models import convbert, dynabert, elc_bert, sharebert

ROOT = Path(__file__).resolve().parents[3]
FAMILIES = {
    "convbert": convbert,
    "dynabert": dynabert,
    "elc_bert": elc_bert,
    "sharebert": sharebert,
}


def test_the_reference_lists_what_is_public() -> None:
    pages = (ROOT / "docs" / "reference").glob("*.md")
    listed = [
        name
        for page in pages
        for name in re.findall(r"^::: (embshare\S*)$", page.read_text(), re.MULTILINE)
    ]
    errors = {f"embshare.errors.{name}" for name in embshare.errors.__all__}
    public = {f"embshare.{name}" for name in embshare.__all__ if name != "__version__"}
    assert len(listed) == len(set(listed))
    models = {
        f"embshare.models.{family}.{name}"
        for family, package in FAMILIES.items()
        for name in package.__all__
        if name != "PRESETS"
    }
    tasks = {f"embshare.tasks.{name}" for name in embshare.tasks.__all__}
    ours = ("Study", "StudyReport", "Trial", "run_study")  # the built-in study is a command
    tasks |= {f"embshare.tasks.studies.{name}" for name in ours}
    assert public | models | tasks | errors - {"embshare.errors.EmbshareError"} == {
        name for name in listed if not name.startswith("embshare.plan.layer_rules.")
    }
