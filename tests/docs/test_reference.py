"""What can be imported is in the reference, and the other way round."""

import re
from pathlib import Path

import embshare
import embshare.errors
from embshare.models import elc_bert, sharebert

ROOT = Path(__file__).resolve().parents[2]


def test_the_reference_lists_what_is_public() -> None:
    docs = ROOT / "docs"
    pages = [*(docs / "reference").glob("*.md"), docs / "sharebert.md", docs / "elc-bert.md"]
    listed = [
        name
        for page in pages
        for name in re.findall(r"^::: (embshare\S*)$", page.read_text(), re.MULTILINE)
    ]
    errors = {f"embshare.errors.{name}" for name in embshare.errors.__all__}
    public = {f"embshare.{name}" for name in embshare.__all__ if name != "__version__"}
    assert len(listed) == len(set(listed))
    models = {
        f"{model.__name__}.{name}" for model in (elc_bert, sharebert) for name in model.__all__
    } - {"embshare.models.sharebert.PRESETS"}
    assert public | models | errors - {"embshare.errors.EmbshareError"} == {
        name for name in listed if not name.startswith("embshare.rules.")
    }
