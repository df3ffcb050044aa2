"""A small example of each task: settings that train in a second or two, and what to predict for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
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
    words = ["".join(letters) for letters in product("bcdfghjkmpqtvwz", "aeiou", "lnrst")]
    for split, count in (("train", 375), ("valid", 30), ("test", 30)):
        for lang, joint, step in (("en", "and", 1), ("de", "und", -1)):
            pairs = zip(words, words[7:] + words[:7], strict=True)
            lines = [f"{one[::step]} {joint} {two[::step]}\n" for one, two in pairs]
            (folder / f"{split}.{lang}").write_text("".join(lines[:count]))
    return {
        "data": str(folder),
        "vocabulary_size": 1100,
        "width": 16,
        "heads": 2,
        "max_length": 16,
        "batch_symbols": 128,
        "beam": 2,
        "training": {"steps": 8, "save_every": 2},
    }


EXAMPLES: Mapping[str, Example] = {
    "language_modelling": Example(_language_modelling, lambda _: ["the quick", ""]),
    "translation": Example(_translation, lambda _: ["bal and den", "", "mut and fis"]),
}
