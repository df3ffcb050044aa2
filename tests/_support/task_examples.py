"""A small example of each task: settings that train in a second or two, and what to predict for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from tests._support import captioning_data as making

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


def _pretraining(folder: Path) -> dict[str, Any]:
    words = " ".join(f"word{index}" for index in range(300))
    for split, times in (("train", 60), ("valid", 6)):
        (folder / f"{split}.txt").write_text(SENTENCE * times + words + "\n")
    return {
        "data": str(folder),
        "vocabulary_size": 360,
        "width": 16,
        "heads": 2,
        "length": 12,
        "training": {"steps": 8, "batch_size": 4, "save_every": 2},
    }


TINY: Mapping[str, object] = {"vocabulary_size": 300, "width": 16, "heads": 2, "layers": 1}
COLOURS = ("red", "blue", "green", "grey", "black", "white")


def _glue(folder: Path) -> dict[str, Any]:
    """Pairs of colours that are the same, or not."""
    for split, rows in (("train", 60), ("dev", 12), ("test", 6)):
        lines = ["index\tsentence1\tsentence2" + ("" if split == "test" else "\tlabel")]
        for index in range(rows):
            one, other = COLOURS[index % 6], COLOURS[(index + index % 2) % 6]
            label = ("entailment", "not_entailment")[index % 2]
            tail = "" if split == "test" else f"\t{label}"
            lines.append(f"{index}\tThe {one} dog .\tA dog that is {other} .{tail}")
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    training = {"steps": 8, "batch_size": 4, "save_every": 2}
    return {**TINY, "name": "rte", "data": str(folder), "training": training}


def _squad(folder: Path) -> dict[str, Any]:
    """Whose colour is asked for; of some the passage does not tell."""
    for side, count in (("train", 12), ("dev", 4)):
        paragraphs = []
        for index in range(count):
            one, other = COLOURS[index % 6], COLOURS[(index + 1) % 6]
            context = f"Anna is {one} . Tom is {other} ."
            found = {"text": other, "answer_start": context.rindex(other)}
            asked = [
                {"id": f"{index}a", "question": "What is Tom ?", "answers": [found]},
                {"id": f"{index}b", "question": "What is Eve ?", "is_impossible": True},
            ]
            paragraphs.append({"context": context, "qas": asked})
        tree = {"version": "v2.0", "data": [{"title": "colours", "paragraphs": paragraphs}]}
        (folder / f"{side}-v2.0.json").write_text(json.dumps(tree))
    training = {"steps": 8, "batch_size": 4, "save_every": 2}
    return {**TINY, "version": "2.0", "data": str(folder), "training": training}


def _captioning(folder: Path) -> dict[str, Any]:
    making.table(folder, plain=True)
    making.paint(folder / "images")
    return {
        "data": str(folder),
        "cache": str(folder / "cache"),
        "image_size": 16,
        "encoder_width": 8,
        "rows": 1024,
        "width": 32,
        "layers": 1,
        "heads": 2,
        "metrics": ["cider"],
        "scst_steps": 4,
        "most_words": 8,
        "training": {"steps": 8, "batch_size": 4, "save_every": 2, "learning_rate": 1e-2},
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
        "batch_tokens": 128,
        "beam": 2,
        "training": {"steps": 8, "save_every": 2},
    }


EXAMPLES: Mapping[str, Example] = {
    "captioning": Example(
        _captioning, lambda folder: [str(path) for path in sorted((folder / "images").iterdir())]
    ),
    "language_modelling": Example(_language_modelling, lambda _: ["the quick", ""]),
    "pretraining": Example(_pretraining, lambda _: ["the quick [MASK] fox", ""]),
    "glue": Example(_glue, lambda _: ["The red dog .\tA red dog .", "A cat .\tNo cat ."]),
    "squad": Example(_squad, lambda _: ["What is Tom ?\tTom is red ."]),
    "translation": Example(_translation, lambda _: ["bal and den", "", "mut and fis"]),
}
