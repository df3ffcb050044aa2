"""Where the text comes from, piece by piece: none of its kinds is ever read as a whole."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from embshare.errors import MissingPackageError
from embshare.tasks.errors import encoding_error
from embshare.tasks.language_modelling.data import LAYOUTS, builtin_corpus
from embshare.tasks.pretraining.config import PretrainingConfig
from embshare.tasks.pretraining.errors import DatasetNotFoundError, DatasetRowError, NoTextError
from embshare.tasks.text.utf8 import Foreign, decoded

__all__ = ["Piece", "Side", "Text", "open_text"]

Side = Literal["train", "valid"]
Lines: TypeAlias = Iterable[str]

TITLE: Final = re.compile(r" = (?!=).*(?<!=) = ?\s*")
"""WikiText's title of an article; those of sections have more signs."""
BLOCK: Final = 2**20
"""Bytes that are read at once."""
LINES: Final = 64
"""Most lines of a piece."""
LONGEST: Final = 2**14
"""Most characters of a line; a longer one is cut, and each of its parts is a piece."""


class Piece(NamedTuple):
    """Some lines of a document."""

    text: str
    first: bool
    """Whether the document begins with them."""


@dataclass(frozen=True)
class Text:
    """A text that can be read as often as one likes."""

    name: str
    """Where it comes from, for a report."""
    fingerprint: str | None
    """Changes when the text does; ``None`` where nothing tells whether it has."""
    sides: Callable[[Side], Iterator[Piece]]
    """The pieces of one side, from the beginning."""
    every: int | None = None
    """One in so many pieces validates; ``None`` where the text has a validation side of its own."""


def open_text(config: PretrainingConfig) -> Text:
    """The text that some settings name; nothing is read yet but names and sizes.

    Raises:
        NoTextError: the folder holds none.
        DatasetNotFoundError: there is no such data set.
        MissingPackageError: `datasets` is not installed.
    """
    blank = config.documents == "blank"
    if config.data is not None:
        return _of_folder(config.data, blank=blank, held_out=config.held_out)
    if config.dataset is not None:
        return _of_hub(config.dataset, config.column, blank=blank, held_out=config.held_out)
    corpus = builtin_corpus()

    def sides(side: Side) -> Iterator[Piece]:
        return _cut(_lines([corpus.split(side)]), blank=blank)

    return Text(corpus.name, corpus.fingerprint(), sides)


def _of_folder(folder: Path, *, blank: bool, held_out: int) -> Text:
    if not folder.is_dir():
        raise NoTextError(folder=folder, finding="there is no such folder")
    train, valid = _named(folder, "train"), _named(folder, "valid")
    if train is not None and valid is not None:
        sides: Callable[[Side], Iterator[Piece]] = partial(
            _either,
            lambda: _of_files([train], blank=blank),
            lambda: _of_files([valid], blank=blank),
        )
        return Text(str(folder), _fingerprint([train, valid]), sides)
    files = sorted(path for path in folder.rglob("*.txt") if path.is_file())
    if not files:
        raise NoTextError(folder=folder, finding="it has no such file")
    sides = partial(_hold_out, lambda: _of_files(files, blank=blank), held_out)
    return Text(str(folder), _fingerprint(files), sides, held_out)


def _named(folder: Path, side: str) -> Path | None:
    paths = (folder / layout.format(side) for layout in LAYOUTS)
    return next((path for path in paths if path.is_file()), None)


def _fingerprint(files: Iterable[Path]) -> str:
    """Of names, sizes and times: the text itself may be too long to be read for that."""
    digest = sha256()
    for path in files:
        about = path.stat()
        digest.update(f"{path}\0{about.st_size}\0{about.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def _hold_out(pieces: Callable[[], Iterator[Piece]], every: int, side: Side) -> Iterator[Piece]:
    """One in ``every`` pieces validates, the others train; where some are left out, the next begins
    as a document does."""
    wanted, cut = side == "valid", False
    for number, piece in enumerate(pieces()):
        if (number % every == every - 1) == wanted:
            yield Piece(piece.text, piece.first or cut)
            cut = False
        else:
            cut = True


def _of_files(files: Iterable[Path], *, blank: bool) -> Iterator[Piece]:
    for path in files:
        blocks = chain(_blocks(path), "\n")  # the end that a last line may lack
        yield from _cut(_lines(blocks), blank=blank)


def _blocks(path: Path) -> Iterator[str]:
    """The text of a UTF-8 file, block by block; a byte order mark goes.

    Raises:
        DataError: it is none; with file and line.
    """
    before, rest = 0, b""
    with path.open("rb") as file:
        if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            file.seek(0)
        while block := file.read(BLOCK):
            raw = rest + block
            _, whole = codecs.utf_8_decode(raw, "ignore", False)  # the last character may be torn
            text, rest = _decoded(raw[:whole], path, before), raw[whole:]
            before += text.count("\n")
            yield text
    yield _decoded(rest, path, before)


def _decoded(raw: bytes, path: Path, before: int) -> str:
    found = decoded(raw)
    if isinstance(found, Foreign):
        line = before + found.line
        raise encoding_error(path, line, byte=found.byte, guess=found.guess)
    return found


def _lines(blocks: Iterable[str]) -> Iterator[str]:
    """The lines of a text, with ``\\n`` at their ends; a long one in parts, the last with its end.

    A line ends with ``\\n`` or ``\\r\\n`` and with nothing else.
    """
    rest = ""
    for block in blocks:
        *lines, rest = (rest + block).replace("\r\n", "\n").split("\n")
        for line in lines:
            yield from _parts(line + "\n")
        *parts, rest = _parts(rest)
        yield from parts
    if rest:
        yield rest


def _parts(line: str) -> Iterator[str]:
    """A line in parts of at most `LONGEST` characters, which have the symbols of the whole one.

    It is cut between a word and the blank behind it, which is in the next word's symbol where
    symbols have blanks. Where there is none, it is cut within a word.
    """
    begin = 0
    while len(line) - begin > LONGEST:
        end = line.rfind(" ", begin + 1, begin + LONGEST + 1)
        while end > 0 and line[end - 1].isspace():
            end = line.rfind(" ", begin + 1, end)
        end = end if end > 0 else begin + LONGEST
        yield line[begin:end]
        begin = end
    yield line[begin:]


def _cut(lines: Lines, *, blank: bool) -> Iterator[Piece]:
    """Documents in pieces of some lines, or of a part of a long one; those without any words are
    left out."""
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


def _of_hub(name: str, column: str, *, blank: bool, held_out: int) -> Text:
    loaded, fingerprint = _load(name)
    train = loaded.get("train")
    if train is None:
        raise DatasetNotFoundError(name=name, finding="it has no split `train`")
    if column not in (train.column_names or (column,)):
        columns = ", ".join(train.column_names)
        raise DatasetNotFoundError(name=name, finding=f"it has no column `{column}` ({columns})")

    def pieces(split: str) -> Iterator[Piece]:
        texts = _texts(loaded[split], name, split, column)
        if blank:  # a row is a line of a longer text
            yield from _cut(_as_lines(texts), blank=True)
        else:
            yield from _documents(texts)

    if fingerprint is not None:
        about = f"{name}\0{column}\0{blank}\0{fingerprint}"
        fingerprint = sha256(about.encode()).hexdigest()[:16]
    if "validation" not in loaded:
        sides = partial(_hold_out, lambda: pieces("train"), held_out)
        return Text(name, fingerprint, sides, held_out)
    return Text(
        name, fingerprint, partial(_either, lambda: pieces("train"), lambda: pieces("validation"))
    )


def _texts(rows: Iterable[Any], name: str, split: str, column: str) -> Iterator[str]:
    """The texts of a split.

    Raises:
        DatasetRowError: a row has none; with split, row and column.
    """
    for number, row in enumerate(rows):
        text = row.get(column)
        if not isinstance(text, str):
            raise DatasetRowError(name=name, split=split, row=number, column=column, has=text)
        yield text


def _documents(texts: Iterable[str]) -> Iterator[Piece]:
    """Rows of a data set: each is a document, but lines of WikiText go on with the one before."""
    texts = iter(texts)
    head = list(_take(texts, LINES))
    if any(TITLE.fullmatch(text) for text in head):
        yield from _cut(_as_lines(chain(head, texts)), blank=False)
        return
    for text in chain(head, texts):
        yield from _cut(_lines([text]), blank=False)


def _as_lines(rows: Iterable[str]) -> Iterator[str]:
    for text in rows:
        yield from _parts(text.rstrip("\n") + "\n")


def _take(texts: Iterator[str], count: int) -> Iterator[str]:
    for _, text in zip(range(count), texts, strict=False):
        yield text


def _either(
    train: Callable[[], Iterator[Piece]], valid: Callable[[], Iterator[Piece]], side: Side
) -> Iterator[Piece]:
    return train() if side == "train" else valid()


def _load(name: str) -> tuple[Any, str | None]:
    """All splits of a data set as streams, and what changes when it does, if anything is known to.

    Of a folder these are the sizes and times of its files, of a set of the hub its revision.
    """
    try:
        from datasets import load_dataset, load_dataset_builder  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise MissingPackageError(package="datasets", extra="hf") from error
    path, _, configuration = name.partition(":")
    folder = Path(path)
    try:
        if folder.exists():
            files = sorted(file for file in folder.rglob("*") if file.is_file()) or [folder]
            return load_dataset(path, configuration or None, streaming=True), _fingerprint(files)
        builder = load_dataset_builder(path, configuration or None)
        return builder.as_streaming_dataset(), builder.hash
    except Exception as error:  # what the package raises has many classes
        lines = str(error).splitlines() or [type(error).__name__]
        raise DatasetNotFoundError(name=name, finding=f"it cannot ({lines[0]})") from error
