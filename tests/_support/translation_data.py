"""Two small languages for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["PAIRS", "write_folder", "write_sides"]

NUMBERS = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier", "five": "fünf"}
PAIRS = [
    (f"{a} and {b} are here", f"{NUMBERS[a]} und {NUMBERS[b]} sind hier")
    for a in NUMBERS
    for b in NUMBERS
]
"""Twenty-five sentences and their translations."""


def write_sides(folder: Path, split: str, pairs: Sequence[tuple[str, str]]) -> None:
    """``split.en`` and ``split.de``."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, lang in enumerate(("en", "de")):
        text = "".join(f"{pair[place]}\n" for pair in pairs)
        (folder / f"{split}.{lang}").write_text(text, encoding="utf-8")


def write_folder(folder: Path) -> Path:
    """All three splits; what is tested is among what is trained on."""
    write_sides(folder, "train", PAIRS * 4)
    write_sides(folder, "valid", PAIRS[3:8])
    write_sides(folder, "test", PAIRS[10:16])
    return folder
