"""Texts in pieces, and their tokens on disk; neither is ever in memory as a whole."""

from __future__ import annotations

import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from io import StringIO
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TextIO, TypeAlias, final

import numpy as np

from embshare.errors import MissingPackageError
from embshare.tasks.errors import DataError, MissingDataError, encoding_error
from embshare.tasks.inputs import HubName, hub_name
from embshare.tasks.pretraining.config import PretrainingConfig
from embshare.tasks.text.corpus import LAYOUTS, builtin_corpus
from embshare.tasks.text.tokenizer import TextTokenizer
from embshare.tasks.text.utf8 import Foreign, decoded

__all__ = ["Piece", "Scratch", "Split", "Text", "Tokens", "encode_to_disk", "open_text"]

Split = Literal["train", "valid"]

TITLE: Final = re.compile(r" = (?!=).*(?<!=) = ?\s*")
"""WikiText's title of an article; those of sections have more signs."""
LINES: Final = 64
"""Maximum number of lines of a piece."""
LONGEST: Final = 2**14
"""Maximum number of characters of a line; a longer one is cut, and each part is a piece."""
PIECES: Final = 256
"""Pieces that are encoded at once: enough for all cores, some megabytes."""
BLOCKS: Final = 16
"""Blocks of `PIECES` that are written at once."""


class Piece(NamedTuple):
    """Some lines of a document."""

    text: str
    first: bool
    """Whether the document begins with them."""


Pieces: TypeAlias = Iterator[Piece]
Block: TypeAlias = np.ndarray[tuple[int], np.dtype[Any]]


@dataclass(frozen=True)
class Text:
    """A text that can be read any number of times."""

    name: str
    """Source, for a report."""
    fingerprint: str | None
    """Changes when the text does; ``None`` where that is unknown."""
    pieces: Callable[[Split], Pieces]
    """The pieces of a split, from the beginning."""
    every: int | None = None
    """One in N pieces is held out for validation; ``None`` where the text has a validation set."""


def open_text(config: PretrainingConfig) -> Text:
    """The text that the settings name; only names and sizes are read yet.

    Raises:
        MissingDataError: there is no such folder, text or data set.
        MissingPackageError: `datasets` is not installed.
    """
    blank = config.documents == "blank"
    if (hub := hub_name(config.data)) is not None:
        return _data_set(hub, config.column, blank=blank, every=config.held_out)
    if config.data is not None:
        return _folder(config.data, blank=blank, every=config.held_out)
    corpus = builtin_corpus()
    return Text(
        corpus.name,
        corpus.fingerprint(),
        lambda split: _cut(_lines(StringIO(corpus.split(split))), blank=blank),
    )


def _folder(folder: Path, *, blank: bool, every: int) -> Text:
    """``datasets`` reads such folders too, but tells no line of a file that is not UTF-8."""
    found = {split: _named(folder, split) for split in ("train", "valid")}
    files = {split: [path] for split, path in found.items() if path is not None}
    if len(files) == 2:
        mark = _fingerprint(chain(*files.values()))
        return Text(str(folder), mark, lambda split: _of_files(files[split], blank=blank))
    texts = sorted(path for path in folder.rglob("*.txt") if path.is_file())
    if not texts:
        raise MissingDataError(
            folder,
            needs="be a folder with train and valid in the WikiText layout, or with any files "
            "*.txt",
            has="it has no such file" if folder.is_dir() else "there is no such folder",
            hint="Name another folder, or leave `data` out to use the text that comes with Python.",
        )
    return Text(
        str(folder),
        _fingerprint(texts),
        lambda split: _held_out(_of_files(texts, blank=blank), every, split),
        every,
    )


def _named(folder: Path, split: str) -> Path | None:
    paths = (folder / layout.format(split) for layout in LAYOUTS)
    return next((path for path in paths if path.is_file()), None)


def _fingerprint(files: Iterable[Path]) -> str:
    """Hash of names, sizes and times: the text itself may be too long to be read for that."""
    digest = sha256()
    for path in files:
        about = path.stat()
        digest.update(f"{path}\0{about.st_size}\0{about.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def _held_out(pieces: Pieces, every: int, split: Split) -> Pieces:
    """One in ``every`` pieces for validation, the others for training. After a piece that is left
    out, the next one begins a document."""
    gap = False
    for number, piece in enumerate(pieces):
        if (number % every == every - 1) == (split == "valid"):
            yield Piece(piece.text, piece.first or gap)
            gap = False
        else:
            gap = True


def _of_files(files: Iterable[Path], *, blank: bool) -> Pieces:
    for path in files:
        yield from _cut(_read(path), blank=blank)


def _read(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, without a byte order mark.

    Raises:
        DataError: it is not UTF-8; with file and line.
    """
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        try:
            for line in _lines(file, last="\n"):
                if "\0" in line:
                    raise _not_utf8(path)
                yield line
        except UnicodeDecodeError as error:
            raise _not_utf8(path) from error


def _not_utf8(path: Path) -> DataError:
    with path.open("rb") as file:
        lines = ((line, decoded(raw)) for line, raw in enumerate(file, 1))
        line, found = next((line, found) for line, found in lines if isinstance(found, Foreign))
    return encoding_error(path, line, byte=found.byte, guess=found.guess)


def _lines(file: TextIO, *, last: str = "") -> Iterator[str]:
    """The lines of a text, with ``\\n`` at their ends; long ones in parts of at most `LONGEST`.

    A line ends with ``\\n`` or ``\\r\\n`` and with nothing else. The parts of a long one have its
    tokens: it is cut between a word and the space after it, which belongs to the next token where
    tokens have spaces. Where there is none, it is cut within a word.

    Args:
        file: the text, opened so that line ends stay.
        last: added to a last line without an end.
    """
    rest = ""
    while text := (rest + file.readline(LONGEST + 1 - len(rest))).replace("\r\n", "\n"):
        if len(text) <= LONGEST:
            yield text if text.endswith("\n") else text + last
            rest = ""
            continue
        end = text.rfind(" ", 1)
        while end > 0 and text[end - 1].isspace():
            end = text.rfind(" ", 1, end)
        end = end if end > 0 else LONGEST
        yield text[:end]
        rest = text[end:]


def _cut(lines: Iterable[str], *, blank: bool) -> Pieces:
    """Documents in pieces of some lines, or of a part of a long one, without blank pieces."""
    kept: list[str] = []
    first = True
    for line in lines:
        ends = TITLE.fullmatch(line) is not None or (blank and not line.strip())
        if kept and (ends or len(kept) == LINES or not kept[-1].endswith("\n")):
            yield Piece("".join(kept), first)
            kept, first = [], False
        first |= ends
        if line.strip():
            kept.append(line)
    if kept:
        yield Piece("".join(kept), first)


def _data_set(hub: HubName, column: str, *, blank: bool, every: int) -> Text:
    loaded, fingerprint = _load(hub)
    name = ":".join(part for part in hub if part is not None)
    train = loaded.get("train")
    if train is None:
        raise _missing(name, "it has no split `train`")
    if column not in (train.column_names or (column,)):
        raise _missing(name, f"it has no column `{column}` ({', '.join(train.column_names)})")

    def pieces(split: str) -> Pieces:
        texts = _texts(loaded[split], name, split, column)
        head = list(islice(texts, LINES))
        if blank or any(TITLE.fullmatch(text) for text in head):  # rows are lines of a longer text
            lines = (StringIO(text.rstrip("\n") + "\n") for text in chain(head, texts))
            yield from _cut(chain.from_iterable(map(_lines, lines)), blank=blank)
            return
        for text in chain(head, texts):
            yield from _cut(_lines(StringIO(text)), blank=False)

    if fingerprint is not None:
        about = f"{name}\0{column}\0{blank}\0{fingerprint}"
        fingerprint = sha256(about.encode()).hexdigest()[:16]
    if "validation" not in loaded:
        return Text(
            name, fingerprint, lambda split: _held_out(pieces("train"), every, split), every
        )
    names = {"train": "train", "valid": "validation"}
    return Text(name, fingerprint, lambda split: pieces(names[split]))


def _texts(rows: Iterable[Any], name: str, split: str, column: str) -> Iterator[str]:
    """The texts of a split.

    Raises:
        DataError: a row has none; with split, row and column.
    """
    for number, row in enumerate(rows):
        text = row.get(column)
        if not isinstance(text, str):
            raise DataError(
                Path(name),
                f"{split}[{number}]",
                needs=f"have a string in its column `{column}`",
                has=f"has {text!r:.40}",
                hint="Leave such rows out of the set, or name another column with `column`.",
            )
        yield text


def _load(hub: HubName) -> tuple[Any, str | None]:
    """All splits of a data set as streams, and what changes when it does, if that is known: sizes
    and times of the files of a folder, the revision of a data set of the hub."""
    try:
        from datasets import load_dataset, load_dataset_builder  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise MissingPackageError(package="datasets", extra="hf") from error
    folder = Path(hub.name)
    try:
        if folder.exists():
            files = sorted(file for file in folder.rglob("*") if file.is_file()) or [folder]
            return load_dataset(*hub, streaming=True), _fingerprint(files)
        builder = load_dataset_builder(*hub)
        return builder.as_streaming_dataset(), builder.hash
    except Exception as error:  # what the package raises has many classes
        lines = str(error).splitlines() or [type(error).__name__]
        raise _missing(hub.name, f"it cannot ({lines[0].rstrip('.')})") from error


def _missing(name: str, has: str) -> MissingDataError:
    return MissingDataError(
        Path(name),
        needs="be a data set that the package `datasets` can read as a stream",
        has=has,
        hint="Write hub:NAME:CONFIG, and name its text with `column`.",
    )


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
    from datasets import Dataset
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
