"""Text in three splits: a folder in the WikiText layout, or the text that comes with Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal, get_args

from embshare.tasks.errors import DataError, MissingDataError
from embshare.tasks.text.files import read_text

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
        """Splits that were read; none of them is empty."""
        return tuple(name for name in SPLITS if self.split(name))

    def split(self, name: Split) -> str:
        """The text of one split."""
        return {"train": self.train, "valid": self.valid, "test": self.test}[name]

    def fingerprint(self) -> str:
        """Hash of all three splits, to tell texts of one name apart."""
        return sha256("\0".join((self.train, self.valid, self.test)).encode()).hexdigest()[:16]


def load_corpus(data: Path | None, *, train: bool = True) -> Corpus:
    """Read the text in the folder ``data``, or the built-in one where that is ``None``.

    Args:
        data: the folder.
        train: read all splits; else ``test``, and ``valid`` where there is one.
    Raises:
        DataError: a file is missing, empty, or not UTF-8; with its line.
    """
    if data is not None:
        return folder_corpus(data, train=train)
    return builtin_corpus() if train else replace(builtin_corpus(), train="")


def builtin_corpus() -> Corpus:
    """The topics of the Python language reference that ``help()`` shows.

    About 65,000 words of English. Some paragraphs occur in several topics and are taken once, so
    that none is in the training set and in the test set. The text differs a little between versions
    of Python, so a report has the fingerprint. Whole topics go to a split, dealt out from the
    longest to the shortest, so that the two small splits have about a tenth of the text each.
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
    """The texts without paragraphs of a longer or an earlier one."""
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
        folder: folder of the files.
        train: as in `load_corpus`.
    Raises:
        MissingDataError: the folder, or one of the splits, is not there.
        DataError: a split is empty, or not UTF-8; with its line.
    """
    found = {split: _find(folder, split) for split in SPLITS}  # all, before a long one is read
    for split, path in found.items():
        if path is None and (train or split == "test"):
            raise _missing(folder, split)
    texts = dict.fromkeys(SPLITS, "")
    for split, path in found.items():
        if path is not None and (train or split != "train"):
            texts[split] = _read(path, split)
    return Corpus(name=str(folder), train=texts["train"], valid=texts["valid"], test=texts["test"])


def _find(folder: Path, split: Split) -> Path | None:
    paths = (folder / layout.format(split) for layout in LAYOUTS)
    return next((path for path in paths if path.is_file()), None)


def _missing(folder: Path, split: Split) -> MissingDataError:
    has = "that is not a folder"
    if folder.is_dir():
        files = sorted(path.name for path in folder.iterdir())[:8]
        has = f"the folder holds {', '.join(files) or 'nothing'}"
    names = " or ".join(layout.format(split) for layout in LAYOUTS)
    return MissingDataError(
        folder,
        needs=f"be a folder with the split `{split}` as {names}",
        has=has,
        hint="Name the folder of a text in the WikiText layout, or leave `data` out to use the "
        "text that comes with Python.",
    )


def _read(path: Path, split: Split) -> str:
    """The file's text; Windows' line ends become ``\\n``, a byte order mark goes."""
    text = read_text(path).replace("\r\n", "\n")
    if not text.strip():
        raise DataError(
            path,
            needs=f"hold the text of the split `{split}`",
            has="has no words in it",
            hint="Fetch the file again, or name another folder.",
        )
    return text
