"""Lines of two files to pairs of sentences, with every fault named by file and line."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from embshare.tasks.text.utf8 import Foreign, decoded
from embshare.tasks.translation.errors import (
    ByteOrderMarkError,
    EmptyLineError,
    EmptySideError,
    MisalignedError,
    PackedFileError,
    TextEncodingError,
)

__all__ = ["Numbered", "Pairs", "align", "numbered_lines", "read_text"]

BOM: Final = "\ufeff"
Numbered: TypeAlias = tuple[int, str]
"""A line and its number in its file, from 1."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Sentences and their translations, one behind another."""

    origin: str
    """Where they come from, for a report."""
    source: tuple[str, ...]
    """The sentences."""
    target: tuple[str, ...]
    """A translation of each."""
    others: tuple[tuple[str, ...], ...] = ()
    """Further translations of all, where a test set has several."""
    left_out: int = 0
    """Pairs with an empty side that were left out."""

    def __len__(self) -> int:
        return len(self.source)


def read_text(path: Path) -> str:
    """A file's text; ``.gz`` is unpacked.

    Raises:
        PackedFileError: it cannot be unpacked.
        TextEncodingError: it is not UTF-8; with file and line.
        ByteOrderMarkError: a line begins with that mark; with file and line.
    """
    raw = path.read_bytes()
    text = decoded(_unpacked(raw, path) if path.suffix == ".gz" else raw)
    if isinstance(text, Foreign):
        raise TextEncodingError(path=path, line=text.line, byte=text.byte, guess=text.guess)
    if text.startswith(BOM) or f"\n{BOM}" in text:  # in the middle where files were joined
        place = 0 if text.startswith(BOM) else text.index(f"\n{BOM}") + 1
        raise ByteOrderMarkError(path=path, line=text.count("\n", 0, place) + 1)
    return text


def _unpacked(raw: bytes, path: Path) -> bytes:
    try:
        return gzip.decompress(raw)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise PackedFileError(path=path, finding=str(error)) from error


def numbered_lines(path: Path) -> list[Numbered]:
    """The lines of a file, without spaces around them.

    Only line feeds end a line (with a carriage return before them or not). Unicode has other
    ends, which stand inside of sentences in published files and would put them out of step.
    """
    text = read_text(path).removesuffix("\n")
    return [(n, line.strip()) for n, line in enumerate(text.split("\n"), 1)] if text else []


def align(
    source: Sequence[Numbered],
    target: Sequence[Numbered],
    *,
    places: tuple[str, str],
    split: str,
    skip_empty: bool = False,
    skippable: bool = False,
) -> Pairs:
    """Two sides to pairs.

    Args:
        source: lines of one language.
        target: of the other.
        places: the files, for errors.
        split: which part of the data it is, likewise.
        skip_empty: leave pairs with an empty side out.
        skippable: whether that could have been asked for.
    Raises:
        EmptySideError: there are no words at all.
        MisalignedError: the sides do not have as many lines as each other.
        EmptyLineError: a line is empty, and pairs are not to be left out; with file and line.
    """
    for lines, place in zip((source, target), places, strict=True):
        if not any(text for _, text in lines):
            raise EmptySideError(place=place, split=split)
    if len(source) != len(target):
        counts = len(source), len(target)
        raise MisalignedError(source=places[0], target=places[1], lines=counts)
    if not skip_empty:
        for lines, place in zip((source, target), places, strict=True):
            _check_no_empty(lines, place, skippable)
    kept = [(s, t) for (_, s), (_, t) in zip(source, target, strict=True) if s and t]
    if not kept:
        raise EmptySideError(place=" and ".join(places), split=split)
    sides = zip(*kept, strict=True)
    return Pairs(
        origin=" and ".join(places),
        source=next(sides),
        target=next(sides),
        left_out=len(source) - len(kept),
    )


def _check_no_empty(lines: Iterable[Numbered], place: str, skippable: bool) -> None:
    empty = [number for number, text in lines if not text]
    if empty:
        raise EmptyLineError(place=place, line=empty[0], skippable=skippable, others=len(empty) - 1)
