"""Pairs of sentences in the published layout: one file of JSON lines for each paradigm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

from embshare.errors import InvalidValueError
from embshare.tasks.errors import DataError, MissingDataError
from embshare.tasks.text.files import read_lines

__all__ = ["Pair", "read_pairs"]

FIELDS: Final = ("sentence_good", "sentence_bad", "UID", "linguistics_term")
RENAMED: Final = {"s-selection": "argument_structure"}
"""Phenomena under the names that the published scores count them by."""
HINT: Final = "Name the folder `data` of github.com/alexwarstadt/blimp, or the one above it."


class Pair(NamedTuple):
    """Two sentences that differ in what makes one of them ungrammatical."""

    good: str
    bad: str
    paradigm: str
    """``UID`` of the published files."""
    phenomenon: str
    """``linguistics_term``, one of twelve; see `RENAMED`."""


def read_pairs(folder: Path, *, most: int | None = None) -> list[Pair]:
    """Read all pairs of a folder, or of the folder ``data`` in it.

    Args:
        folder: with one file for each paradigm.
        most: maximum number of pairs of each paradigm, from its beginning.
    Raises:
        InvalidValueError: ``most`` is below 1.
        DataError: no such files, one without pairs, or a line that is no pair; with file and line.
    """
    if most is not None and most < 1:
        fault = f"`most` must be at least 1 pair of each paradigm, but is {most}"
        raise InvalidValueError(what="BLiMP", faults=[fault])
    home = folder / "data" if (folder / "data").is_dir() else folder
    files = sorted(home.glob("*.jsonl"))
    if not files:
        needs, has = "hold BLiMP as published, files *.jsonl", "has no such file"
        raise MissingDataError(folder, needs=needs, has=has, hint=HINT)
    pairs: list[Pair] = []
    for path in files:
        lines = enumerate(read_lines(path), start=1)
        found = [_pair(path, number, line) for number, line in lines if line.strip()]
        if not found:
            raise DataError(path, needs="hold pairs of sentences", has="has none", hint=HINT)
        pairs += found[:most]
    return pairs


def _pair(path: Path, number: int, line: str) -> Pair:
    needs = f"be a pair as published, JSON with {', '.join(FIELDS)}"
    try:
        fields: Any = json.loads(line)
        values = [fields[name] for name in FIELDS]
    except (ValueError, KeyError, TypeError) as error:
        has = f"is none ({type(error).__name__}: {error})"
        raise DataError(path, number, needs=needs, has=has, hint=HINT) from error
    if not all(isinstance(value, str) and value.strip() for value in values):
        raise DataError(path, number, needs=needs, has="one of these is no text", hint=HINT)
    good, bad, paradigm, phenomenon = values
    return Pair(good, bad, paradigm, RENAMED.get(phenomenon, phenomenon))
