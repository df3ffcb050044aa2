"""Text in three splits, from a folder in the layout of WikiText or from Python's own help."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, get_args

from embshare.tasks.errors import DataError, MissingDataError, encoding_error
from embshare.tasks.hub import load_splits
from embshare.tasks.inputs import HubName, hub_name
from embshare.tasks.text.utf8 import Foreign, decoded

__all__ = [
    "LAYOUTS",
    "SPLITS",
    "Corpus",
    "Split",
    "builtin_corpus",
    "folder_corpus",
    "hub_corpus",
    "load_corpus",
]

Split = Literal["train", "valid", "test"]
SPLITS: Final[tuple[Split, ...]] = get_args(Split)
LAYOUTS: Final = ("{}.txt", "wiki.{}.tokens", "wiki.{}.raw", "ptb.{}.txt")
HUB_SPLITS: Final[Mapping[Split, str]] = MappingProxyType(
    {"train": "train", "valid": "validation", "test": "test"}
)
TOPICS_PER_ROUND: Final = 10  # of the built-in text: eight for training, one for each other split


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Splits of a text; those that an evaluation does not need are empty."""

    name: str
    """Source of the text, for a report."""
    train: str
    valid: str
    test: str

    @property
    def splits(self) -> tuple[Split, ...]:
        """Splits that were read; none of them is empty."""
        return tuple(name for name in SPLITS if self.split(name))

    def split(self, name: Split) -> str:
        """Return the text of a split."""
        return {"train": self.train, "valid": self.valid, "test": self.test}[name]

    def fingerprint(self) -> str:
        """Return the start of a SHA-256 over all splits, which tells texts of one name apart."""
        return sha256("\0".join((self.train, self.valid, self.test)).encode()).hexdigest()[:16]


def load_corpus(data: Path | None, *, train: bool = True) -> Corpus:
    """Load the text in a folder or of the hub, or the built-in one.

    Args:
        data: folder, or ``hub:NAME`` or ``hub:NAME:CONFIG``; ``None`` is the built-in text.
        train: read all splits. Otherwise ``test``, and ``valid`` if there is one.
    Raises:
        DataError: a file is missing, empty, or not UTF-8; with file and line.
    """
    if (hub := hub_name(data)) is not None:
        return hub_corpus(hub, train=train)
    if data is not None:
        return folder_corpus(data, train=train)
    return builtin_corpus() if train else replace(builtin_corpus(), train="")


def builtin_corpus() -> Corpus:
    """Load the topics of the Python language reference that ``help()`` shows.

    About 65,000 words of English. Some paragraphs occur in several topics and are used once: the
    test set must not contain training text. The text differs a little between versions of Python,
    so a report has its fingerprint. Each topic is in one split. They are dealt from the longest to
    the shortest, so that the validation and the test set have about a tenth of the text each.
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
    """Remove paragraphs that occur in a longer text, or before."""
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
        train: see `load_corpus`.
    Raises:
        MissingDataError: the folder or a split is missing.
        DataError: a split has no words, or a file is not UTF-8; with file and line.
    """
    found = {split: _find(folder, split) for split in SPLITS}  # before a long one is read
    for split, path in found.items():
        if path is None and (train or split == "test"):
            raise MissingDataError(
                folder,
                needs=f"be a folder with the split `{split}` as {' or '.join(_names(split))}",
                has=_content(folder),
                hint="Name the folder of a text in the WikiText layout, or leave `data` out to use "
                "the text that comes with Python.",
            )
    texts = dict.fromkeys(SPLITS, "")
    for split, path in found.items():
        if path is not None and (train or split != "train"):
            texts[split] = _read(path, split)
    return Corpus(name=str(folder), train=texts["train"], valid=texts["valid"], test=texts["test"])


def hub_corpus(hub: HubName, *, train: bool = True) -> Corpus:
    """Read the column ``text`` of a data set of the hub, a line or several in each row.

    Args:
        hub: name, or a folder in the hub's layout, and configuration.
        train: see `load_corpus`.
    Raises:
        MissingDataError: there is no such set, or it lacks a split or the column.
    """
    loaded, texts = load_splits(*hub), dict.fromkeys(SPLITS, "")
    for split, name in HUB_SPLITS.items():
        if name in loaded and (train or split != "train"):
            if "text" not in loaded[name].column_names:
                has = f"has the columns {', '.join(loaded[name].column_names)}"
                raise _of_hub(hub, name, "have a column `text`", has)
            texts[split] = "".join(_rows(hub, name, loaded[name]["text"]))
        if (train or split == "test") and not texts[split].strip():
            has = f"the set has {', '.join(loaded) or 'no splits'}"
            raise _of_hub(hub, name, "be a split with text", has)
    name = ":".join(part for part in hub if part is not None)
    return Corpus(name=name, train=texts["train"], valid=texts["valid"], test=texts["test"])


def _rows(hub: HubName, split: str, rows: Iterable[object]) -> Iterator[str]:
    """Rows with their line ends; null is an empty line."""
    for number, row in enumerate(rows):
        text = "" if row is None else row
        if not isinstance(text, str):
            raise _of_hub(hub, f"{split}[{number}]", "hold text", f"holds {row!r:.40}")
        yield text if text.endswith("\n") else f"{text}\n"


def _of_hub(hub: HubName, split: str, needs: str, has: str) -> MissingDataError:
    hint = "Name another set, or a folder in the WikiText layout."
    return MissingDataError(Path(hub.name), split, needs=needs, has=has, hint=hint)


def _content(folder: Path) -> str:
    if not folder.is_dir():
        return "that is not a folder"
    found = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    return f"the folder holds {found}"


def _find(folder: Path, split: Split) -> Path | None:
    paths = (folder / name for name in _names(split))
    return next((path for path in paths if path.is_file()), None)


def _names(split: Split) -> list[str]:
    return [layout.format(split) for layout in LAYOUTS]


def _read(path: Path, split: Split) -> str:
    """Read a text; Windows' line ends become ``\\n``, and a byte order mark is removed."""
    found = decoded(path.read_bytes())
    if isinstance(found, Foreign):
        raise encoding_error(path, found.line, byte=found.byte, guess=found.guess)
    text = found.removeprefix("\ufeff").replace("\r\n", "\n")
    if not text.strip():
        raise DataError(
            path,
            needs=f"hold the text of the split `{split}`",
            has="has no words in it",
            hint="Fetch the file again, or name another folder.",
        )
    return text
