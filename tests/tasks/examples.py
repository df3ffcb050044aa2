"""A small example of each task: settings that train in a second or two, and what to predict for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["EXAMPLES", "Example"]


@dataclass(frozen=True)
class Example:
    """One task made small."""

    settings: Callable[[Path], dict[str, Any]]
    """From an empty folder, to write data into, to the fields of the task's settings."""
    inputs: Callable[[Path], list[str]]
    """From the same folder to inputs of `Processor.predict`."""


SENTENCE = "the quick brown fox jumps over the lazy dog and sits down by the river\n"


def _language_modelling(folder: Path) -> dict[str, Any]:
    words = " ".join(f"word{index}" for index in range(300))
    for split, times in (("train", 30), ("valid", 2), ("test", 3)):
        (folder / f"{split}.txt").write_text(SENTENCE * times + words + "\n")
    return {
        "data": str(folder),
        "level": "word",
        "vocabulary_size": None,
        "width": 16,
        "heads": 2,
        "length": 12,
        "training": {"steps": 8, "batch_size": 4, "save_every": 2},
    }


def _translation(folder: Path) -> dict[str, Any]:
    for split, times in (("train", 6), ("valid", 1), ("test", 1)):
        for lang, joint in (("en", "and"), ("de", "und")):
            lines = [f"{a} {joint} {b}\n" for a in range(6) for b in "abcdef"] * times
            (folder / f"{split}.{lang}").write_text("".join(lines))
    return {
        "data": str(folder),
        "vocabulary_size": 300,
        "width": 16,
        "heads": 2,
        "max_length": 16,
        "batch_symbols": 128,
        "beam": 2,
        "training": {"steps": 8, "save_every": 2},
    }


EXAMPLES: Mapping[str, Example] = {
    "language_modelling": Example(_language_modelling, lambda _: ["the quick", ""]),
    "translation": Example(_translation, lambda _: ["1 and a", "", "4 and f"]),
}
