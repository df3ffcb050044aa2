"""Where the text comes from: a folder in the WikiText layout, or what any Python brings along."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal, get_args

from embshare.tasks.language_modelling.errors import (
    EmptySplitError,
    SplitMissingError,
    TextEncodingError,
)
from embshare.tasks.text.utf8 import Foreign, decoded

__all__ = ["LAYOUTS", "SPLITS", "Corpus", "Split", "builtin_corpus", "folder_corpus", "load_corpus"]

Split = Literal["train", "valid", "test"]
SPLITS: Final[tuple[Split, ...]] = get_args(Split)
LAYOUTS: Final = ("{}.txt", "wiki.{}.tokens", "wiki.{}.raw", "ptb.{}.txt")
TOPICS_PER_ROUND: Final = 10  # of the built-in text: eight to learn from, one for each other split


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """The three splits of a text, or those that an evaluation needs; others are empty."""

    name: str
    """Where it came from, for a report."""
    train: str
    valid: str
    test: str

    @property
    def splits(self) -> tuple[Split, ...]:
        """Those that were read; none of them is empty."""
        return tuple(name for name in SPLITS if self.split(name))

    def split(self, name: Split) -> str:
        """The text of one split."""
        return {"train": self.train, "valid": self.valid, "test": self.test}[name]

    def fingerprint(self) -> str:
        """The start of a SHA-256 over all three splits, to tell texts of one name apart."""
        return sha256("\0".join((self.train, self.valid, self.test)).encode()).hexdigest()[:16]


def load_corpus(data: Path | None, *, train: bool = True) -> Corpus:
    """The text in the folder ``data``, or the built-in one where that is ``None``.

    Args:
        data: the folder.
        train: read all splits. Otherwise ``test``, and ``valid`` where it is there: what is scored.
    Raises:
        CorpusError: a file is missing, empty, or not UTF-8.
    """
    if data is not None:
        return folder_corpus(data, train=train)
    return builtin_corpus() if train else replace(builtin_corpus(), train="")


def builtin_corpus() -> Corpus:
    """The topics of the Python language reference that ``help()`` shows.

    About 65,000 words of English, of which a part stands in several topics: a paragraph is taken
    once, or the model would have learned by heart what it is tested on. The number changes a little
    with the version of Python, so a report carries the fingerprint. Topics go to the splits whole.
    They are dealt out from the longest to the shortest, so that the two small splits have about a
    tenth of the text each.
    """
    from pydoc_data.topics import topics

    parts: dict[Split, list[str]] = {name: [] for name in SPLITS}
    for index, text in enumerate(_longest_first(_each_paragraph_once(topics.values()))):
        match index % TOPICS_PER_ROUND:
            case 4:
                parts["valid"].append(text)
            case 5:
                parts["test"].append(text)
            case _:
                parts["train"].append(text)
    texts = {name: "\n".join(found) for name, found in parts.items()}
    return Corpus(
        name="pydoc_data.topics", train=texts["train"], valid=texts["valid"], test=texts["test"]
    )


def _each_paragraph_once(texts: Iterable[str]) -> Iterator[str]:
    """The texts without the paragraphs that stood in a longer one, or before."""
    seen: set[str] = set()
    for text in _longest_first(texts):
        kept = []
        for paragraph in text.split("\n\n"):
            if (bare := " ".join(paragraph.split())) not in seen:
                seen.add(bare)
                kept.append(paragraph)
        yield "\n\n".join(kept)


def _longest_first(texts: Iterable[str]) -> list[str]:
    return sorted(texts, key=lambda text: (-len(text), text))


def folder_corpus(folder: Path, *, train: bool = True) -> Corpus:
    """Read ``train``, ``valid`` and ``test`` of a folder in the published layouts.

    Each split is ``{split}.txt``, in UTF-8; or ``wiki.{split}.tokens`` or ``wiki.{split}.raw``, as
    in WikiText; or ``ptb.{split}.txt``, as in the Penn Treebank.

    Args:
        folder: of the files.
        train: as in `load_corpus`.
    Raises:
        SplitMissingError: the folder, or one of the splits, is not there.
        EmptySplitError: a split has no words.
        TextEncodingError: a file is not UTF-8; with file and line.
    """
    found = {split: _find(folder, split) for split in SPLITS}  # all, before a long one is read
    for split, path in found.items():
        if path is None and (train or split == "test"):
            raise SplitMissingError(folder=folder, split=split, names=_names(split))
    texts = dict.fromkeys(SPLITS, "")
    for split, path in found.items():
        if path is not None and (train or split != "train"):
            texts[split] = _read(path, split)
    return Corpus(name=str(folder), train=texts["train"], valid=texts["valid"], test=texts["test"])


def _find(folder: Path, split: Split) -> Path | None:
    paths = (folder / name for name in _names(split))
    return next((path for path in paths if path.is_file()), None)


def _names(split: Split) -> list[str]:
    return [layout.format(split) for layout in LAYOUTS]


def _read(path: Path, split: Split) -> str:
    """The file's text; Windows' line ends become ``\\n``, a byte order mark goes."""
    found = decoded(path.read_bytes())
    if isinstance(found, Foreign):
        raise TextEncodingError(path=path, line=found.line, byte=found.byte, guess=found.guess)
    text = found.removeprefix("\ufeff").replace("\r\n", "\n")
    if not text.strip():
        raise EmptySplitError(path=path, split=split)
    return text
