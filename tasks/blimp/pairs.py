"""Pairs of sentences in the published layout: one file of JSON lines for each paradigm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

from embshare.errors import EmbshareError, InvalidValueError
from embshare.tasks.errors import DataError
from embshare.tasks.text.files import read_lines

__all__ = ["BlimpDataError", "Pair", "read_pairs"]


RENAMED: Final = {"s-selection": "argument_structure"}


class Pair(NamedTuple):
    """Two sentences that differ in what makes one of them ungrammatical."""

    good: str
    bad: str
    paradigm: str
    """``UID`` of the published files."""
    phenomenon: str
    """``linguistics_term``, one of twelve: ``s-selection``, which the published scores count as
    ``argument_structure``, is so here too."""


class BlimpDataError(EmbshareError, ValueError):
    """A folder holds no BLiMP, or a file of it is not as published."""

    def __init__(self, *, path: Path, line: int | None, finding: str) -> None:
        place = f"`{path}`" if line is None else f"`{path}`, line {line:,},"
        super().__init__(
            f"{place} must be BLiMP as published, files *.jsonl with sentence_good, sentence_bad, "
            f"UID and linguistics_term, but {finding}. Name the folder `data` of "
            "github.com/alexwarstadt/blimp, or the one above it."
        )
        self.path, self.line, self.finding = path, line, finding


def read_pairs(folder: Path, *, most: int | None = None) -> list[Pair]:
    """All pairs of a folder, or of the folder ``data`` in it.

    Args:
        folder: with one file for each paradigm.
        most: pairs of each paradigm, from its beginning.
    Raises:
        InvalidValueError: ``most`` is below 1.
        BlimpDataError: no such files, one without pairs, or a line that is no pair; with file and
            line.
    """
    if most is not None and most < 1:
        fault = f"`most` must be at least 1 pair of each paradigm, but is {most}"
        raise InvalidValueError(what="BLiMP", faults=[fault])
    files = sorted(folder.glob("*.jsonl")) if folder.is_dir() else []
    if (folder / "data").is_dir():
        files = sorted((folder / "data").glob("*.jsonl"))
    if not files:
        raise BlimpDataError(path=folder, line=None, finding="it has no such file")
    pairs: list[Pair] = []
    for path in files:
        try:
            lines = read_lines(path)
        except DataError as error:
            finding = f"it is not UTF-8: it {error.has}"
            raise BlimpDataError(path=path, line=int(error.line or 0), finding=finding) from error
        found = [_pair(path, n, line) for n, line in enumerate(lines, start=1) if line.strip()]
        if not found:
            raise BlimpDataError(path=path, line=None, finding="it holds no pair")
        pairs += found[:most]
    return pairs


def _pair(path: Path, number: int, line: str) -> Pair:
    try:
        fields: Any = json.loads(line)
        names = ("sentence_good", "sentence_bad", "UID", "linguistics_term")
        values = [fields[name] for name in names]
    except (ValueError, KeyError, TypeError) as error:
        finding = f"it is no such pair ({type(error).__name__}: {error})"
        raise BlimpDataError(path=path, line=number, finding=finding) from error
    if not all(isinstance(value, str) and value.strip() for value in values):
        raise BlimpDataError(path=path, line=number, finding="one of these is no text")
    good, bad, paradigm, phenomenon = values
    return Pair(good, bad, paradigm, RENAMED.get(phenomenon, phenomenon))
