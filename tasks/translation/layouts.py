"""Which files of a folder are which split: plain files, Multi30k's names, IWSLT's names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final, TypeAlias

from embshare.tasks.translation.errors import PairsMissingError, PartnerMissingError
from embshare.tasks.translation.iwslt import read_segments, read_tagged
from embshare.tasks.translation.reading import Numbered, Pairs, align, numbered_lines

__all__ = ["Side", "find_split", "read_split"]

Reader: TypeAlias = Callable[[Path], list[Numbered]]

NAMES: Final = {
    "train": ("train",),
    "valid": ("valid", "val", "dev"),
    "test": ("test", "test_2016_flickr"),
}
"""What a split is called in files; another is called as it is."""
FOLDERS: Final = (".", "raw", "data/task1/raw")
"""Where plain files may be in the folder that is named: Multi30k's repository has them deep."""
ENDINGS: Final = ("{name}.{lang}", "{name}.{lang}.gz", "{name}.lc.norm.tok.{lang}")
PARTS: Final = {"valid": "dev*", "test": "tst*"}
"""IWSLT's years of a split; all are read, in order."""


@dataclass(frozen=True)
class Side:
    """The files of one split in one language, in order."""

    paths: tuple[Path, ...]
    reader: Reader
    lang: str

    @property
    def complete(self) -> bool:
        """Whether there are any, and all are there."""
        return bool(self.paths) and all(path.is_file() for path in self.paths)

    @property
    def parts(self) -> tuple[str, ...]:
        """What each file is of: its name without the language."""
        names = (path.name.removesuffix(".gz").removesuffix(".xml") for path in self.paths)
        return tuple(name.removesuffix(f".{self.lang}") for name in names)

    @property
    def place(self) -> str:
        """For a message: the first file, and how many there are."""
        more = f" (and {len(self.paths) - 1} more)" if len(self.paths) > 1 else ""
        return f"{self.paths[0]}{more}"


def find_split(folder: Path, split: str, langs: tuple[str, str]) -> tuple[Side, Side]:
    """The files of a split in both languages; none is read.

    Raises:
        PairsMissingError: there are none; the message says what would have been one.
        PartnerMissingError: one of several files is there in one language alone.
    """
    for source, target in _candidates(folder, split, langs):
        if source.complete and target.complete:
            _check_partners(source, target)
            return source, target
    names = [
        " and ".join(ENDINGS[0].format(name=name, lang=lang) for lang in langs)
        for name in NAMES.get(split, (split,))
    ]
    names.append(f"IWSLT's files of {langs[0]} and {langs[1]}")
    raise PairsMissingError(folder=folder, split=split, names=names, found=_content(folder))


def _candidates(folder: Path, split: str, langs: tuple[str, str]) -> Iterator[tuple[Side, Side]]:
    """All that a split may be, the plainest first."""
    first, second = langs
    for name, ending, inner in product(NAMES.get(split, (split,)), ENDINGS, FOLDERS):
        yield (
            _plain(folder / inner, ending, name, first),
            _plain(folder / inner, ending, name, second),
        )
    for pair in (f"{first}-{second}", f"{second}-{first}"):
        for inner in (".", pair):
            yield (
                _iwslt(folder / inner, split, pair, first),
                _iwslt(folder / inner, split, pair, second),
            )


def _check_partners(source: Side, target: Side) -> None:
    for side, other in ((source, target), (target, source)):
        for path, part in zip(side.paths, side.parts, strict=True):
            if part not in other.parts:
                raise PartnerMissingError(path=path)


def _plain(folder: Path, ending: str, name: str, lang: str) -> Side:
    return Side((folder / ending.format(name=name, lang=lang),), numbered_lines, lang)


def _iwslt(folder: Path, split: str, pair: str, lang: str) -> Side:
    if split == "train":
        return Side((folder / f"train.tags.{pair}.{lang}",), read_tagged, lang)
    years = PARTS.get(split, split)
    found = sorted(folder.glob(f"IWSLT*.{years}.{pair}.{lang}.xml"))
    return Side(tuple(found), read_segments, lang)


def _content(folder: Path) -> str:
    if not folder.is_dir():
        return "that is not a folder"
    names = sorted(path.name for path in folder.iterdir())
    return f"the folder holds {', '.join(names[:8]) or 'nothing'}"


def read_split(sides: tuple[Side, Side], split: str, *, skip_empty: bool) -> Pairs:
    """The pairs of a split whose files are known; errors as in `align`."""
    parts = [
        align(
            source_reader(source),
            target_reader(target),
            places=(str(source), str(target)),
            split=split,
            skip_empty=skip_empty and split == "train",
            skippable=split == "train",
        )
        for (source, source_reader), (target, target_reader) in zip(
            *([(path, side.reader) for path in side.paths] for side in sides), strict=True
        )
    ]
    return _joined(parts, " and ".join(side.place for side in sides))


def _joined(parts: Sequence[Pairs], origin: str) -> Pairs:
    return Pairs(
        origin=origin,
        source=tuple(line for part in parts for line in part.source),
        target=tuple(line for part in parts for line in part.target),
        left_out=sum(part.left_out for part in parts),
    )
