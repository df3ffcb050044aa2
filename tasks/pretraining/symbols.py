"""A text as symbols on disk, of which a process has in memory what it reads."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from embshare.tasks.pretraining.text import Piece
from embshare.tasks.pretraining.vocabulary import MaskedVocabulary

__all__ = ["Scratch", "Symbols", "encode_to_disk"]

PIECES: Final = 256
"""That are encoded at once: enough for all cores, some megabytes."""


@final
@dataclass(frozen=True)
class Symbols:
    """A file of symbols, and how it is read; pickled as its name, not with its content."""

    path: Path
    count: int
    kind: str
    """``uint16`` or ``uint32``."""

    @property
    def array(self) -> np.ndarray[tuple[int], np.dtype[Any]]:
        """``[N]``, memory-mapped."""
        found: np.ndarray[tuple[int], np.dtype[Any]]
        if not self.count:
            return np.empty(0, dtype=self.kind)
        found = np.memmap(self.path, dtype=self.kind, mode="r", shape=(self.count,))
        return found

    @property
    def _about(self) -> Path:
        return self.path.with_suffix(".json")

    def write_about(self) -> None:
        """Say what the file holds; it is taken for whole from then on."""
        part = _part_of(self._about)
        part.write_text(json.dumps({"count": self.count, "kind": self.kind}))
        part.replace(self._about)

    @classmethod
    def found(cls, path: Path) -> Symbols | None:
        """A file that is there and whole."""
        try:
            about = json.loads(path.with_suffix(".json").read_text())
            made = cls(path, int(about["count"]), str(about["kind"]))
            size = made.count * np.dtype(made.kind).itemsize
            return made if path.stat().st_size == size else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _part_of(path: Path) -> Path:
    """Where a process writes a file that is not whole yet; another process has another one."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


@final
class Scratch:
    """A folder that is there for as long as this is."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="embshare-symbols-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def encode_to_disk(
    pieces: Iterable[Piece], vocabulary: MaskedVocabulary, path: Path, *, most: int | None
) -> Symbols:
    """Encode a text, with an end symbol between documents.

    Args:
        pieces: the text.
        vocabulary: what encodes it.
        path: of the file; it is there when it is whole.
        most: symbols, at most.
    """
    kind = "uint16" if len(vocabulary) <= 2**16 else "uint32"
    path.parent.mkdir(parents=True, exist_ok=True)
    part, count = _part_of(path), 0
    try:
        with part.open("wb") as file:
            for ids in _encoded(pieces, vocabulary):
                if most is not None:
                    ids = ids[: most - count]
                file.write(np.asarray(ids, dtype=kind).tobytes())
                count += len(ids)
                if count == most:
                    break
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)  # it is there where the text could not be read to its end
    made = Symbols(path, count, kind)
    made.write_about()
    return made


def _encoded(pieces: Iterable[Piece], vocabulary: MaskedVocabulary) -> Iterator[list[int]]:
    end, rest, begun = vocabulary.symbols["sep_token_id"], iter(pieces), False
    while some := list(islice(rest, PIECES)):
        for piece, ids in zip(some, vocabulary.encode([p.text for p in some]), strict=True):
            yield [end, *ids] if piece.first and begun else ids
            begun = True
