"""A text as tokens on disk, of which a process has in memory what it reads."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeAlias, final

import numpy as np

from embshare.tasks.pretraining.text import Piece
from embshare.tasks.text.tokenizer import TextTokenizer

__all__ = ["Scratch", "Tokens", "encode_to_disk"]

Block: TypeAlias = np.ndarray[tuple[int], np.dtype[Any]]

PIECES: Final = 256
"""Pieces that are encoded at once: enough for all cores, some megabytes."""
BLOCKS: Final = 16
"""Blocks of `PIECES` that are written at once."""


@final
class Tokens:
    """A stream of tokens in the cache of ``datasets``, memory-mapped, pickled as a file name.

    ``group_texts``, which the examples of transformers ``map`` over a data set, drops what is left
    over of every batch, and would need another copy for longer sequences. A stream has any rows.
    """

    def __init__(self, blocks: Any) -> None:
        self._blocks = blocks

    def __len__(self) -> int:
        return len(self._stream)

    def read(self, begin: int = 0, count: int | None = None) -> Block:
        """``[count]`` tokens of uint16 or uint32 from a position on; all by default."""
        found: Block = self._stream.slice(begin, count).to_numpy()
        return found

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self._blocks.cache_files[0]["filename"])

    @cached_property
    def _stream(self) -> Any:
        import pyarrow as pa  # type: ignore[import-untyped]

        return pa.chunked_array([block.flatten() for block in self._blocks.data[0].chunks])

    def __getstate__(self) -> dict[str, object]:
        return {"_blocks": self._blocks}


@final
class Scratch:
    """A folder that is removed with this object."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="embshare-tokens-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def encode_to_disk(
    pieces: Iterable[Piece],
    tokenizer: TextTokenizer,
    folder: Path,
    *,
    fingerprint: str,
    most: int | None,
) -> Tokens:
    """Encode a text, with an end token between documents, or find it encoded.

    Args:
        pieces: the text.
        tokenizer: its tokenizer.
        folder: folder of the cache; a text that was encoded to its end is found there again.
        fingerprint: name of text and tokenizer together: whoever changes either gives another one.
        most: maximum number of tokens; the rest of the text is not read.
    Raises:
        DataError: a part of the text cannot be read.
    """
    from datasets import Dataset  # type: ignore[import-untyped]
    from datasets.exceptions import DatasetGenerationError  # type: ignore[import-untyped]

    try:
        blocks = Dataset.from_generator(
            lambda: ({"tokens": block} for block in _blocks(pieces, tokenizer, most)),
            cache_dir=str(folder),
            fingerprint=fingerprint,
            writer_batch_size=BLOCKS,
        )
    except DatasetGenerationError as error:
        raise (error.__cause__ or error) from None  # the fault itself, with file and line
    return Tokens(blocks)


def _blocks(pieces: Iterable[Piece], tokenizer: TextTokenizer, most: int | None) -> Iterator[Block]:
    """Arrays, which ``datasets`` writes five times as fast as lists; at least one."""
    kind = "uint16" if len(tokenizer) <= 2**16 else "uint32"
    yield np.empty(0, dtype=kind)
    end, rest, first = tokenizer.special_ids["sep_token_id"], iter(pieces), True
    while (most is None or most > 0) and (some := list(islice(rest, PIECES))):
        ids: list[int] = []
        for piece, found in zip(some, _encoded(some, tokenizer), strict=True):
            ids += [end, *found] if piece.first and not first else found
            first = False
        yield np.asarray(ids[:most], dtype=kind)
        most = None if most is None else most - len(ids)


def _encoded(pieces: Iterable[Piece], tokenizer: TextTokenizer) -> list[list[int]]:
    """A text that spells out a special token is a text to learn from, and has none."""
    return tokenizer.ids([piece.text for piece in pieces], reads_special=False)
