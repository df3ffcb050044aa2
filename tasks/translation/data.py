"""Aligned sentences: from folders, from data sets by name, or from the CLDR; and their batches."""

from __future__ import annotations

import gzip
import html
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any, Final, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from embshare.errors import MissingPackageError
from embshare.models.matched.embedding import IGNORED
from embshare.tasks.cache import kept_tensors
from embshare.tasks.errors import DataError, MissingDataError, encoding_error
from embshare.tasks.inputs import HubName, hub_name
from embshare.tasks.task import Batch
from embshare.tasks.text.utf8 import Foreign, decoded
from embshare.tasks.translation.config import TranslationConfig
from embshare.tasks.translation.phrases import phrase_pairs

__all__ = [
    "SACREBLEU",
    "Collate",
    "Corpus",
    "Numbered",
    "PairRow",
    "PairRows",
    "Pairs",
    "Ragged",
    "align",
    "load_corpus",
    "numbered_lines",
    "pad_rows",
]

SACREBLEU: Final = "sacrebleu:"
HUB_SPLITS: Final = {"valid": ("validation", "valid", "dev")}
PHRASES: Final = 8_000
"""Number of training pairs from the CLDR, unless the settings say how many."""
HELD_OUT: Final = 300
"""Number of pairs from the CLDR in the validation set, and in the test set."""
SEED: Final = 20240229
"""Seed of the phrases, the same in all runs."""
BOM: Final = "\ufeff"
NAMES: Final = {
    "train": ("train",),
    "valid": ("valid", "val", "dev"),
    "test": ("test", "test_2016_flickr"),
}
"""File names of a split; other splits have the name that is asked for."""
FOLDERS: Final = (".", "raw", "data/task1/raw")
"""Subfolders with plain files, the last one as in the repository of Multi30k."""
ENDINGS: Final = ("{name}.{lang}", "{name}.{lang}.gz", "{name}.lc.norm.tok.{lang}")
YEARS: Final = {"valid": "dev*", "test": "tst*"}
"""Years of IWSLT that make up a split, read in order."""
OPENING: Final = re.compile(r"<seg\b", re.IGNORECASE)
SEGMENT: Final = re.compile(r"<seg\b[^>]*>(.*?)</seg>", re.IGNORECASE)
TAG: Final = re.compile(r"</?([a-z]+)\b[^>]*>", re.IGNORECASE)
SENTENCES: Final = ("title", "description")
"""Tags of IWSLT whose content is translated; others describe the talk."""

Langs: TypeAlias = tuple[str, str]
"""Source and target language."""
Numbered: TypeAlias = tuple[int, str]
"""A line number, from 1, and the line."""
Reader: TypeAlias = Callable[[Path], list[Numbered]]


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Sentences and their translations."""

    origin: str
    """Source of the sentences, for a report."""
    source: tuple[str, ...]
    """Sentences to translate."""
    target: tuple[str, ...]
    """Translation of each sentence."""
    others: tuple[tuple[str, ...], ...] = ()
    """Further references of all sentences, where a test set has several."""
    left_out: int = 0
    """Number of pairs that were left out because a line was empty."""

    def __len__(self) -> int:
        return len(self.source)

    def first(self, count: int | None) -> Pairs:
        """The first pairs; ``None`` is all."""
        return replace(
            self,
            source=self.source[:count],
            target=self.target[:count],
            others=tuple(other[:count] for other in self.others),
        )


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """The splits that a run needs."""

    name: str
    """Source of the sentences, for a report."""
    splits: Mapping[str, Pairs]
    """Pairs by split. Without ``train`` where a model is only evaluated, and then without ``valid``
    too if the data have none."""

    def fingerprint(self) -> str:
        """Return the start of a SHA-256 over all splits, which tells data of one name apart."""
        digest = sha256()
        for split, pairs in self.splits.items():
            sides = (pairs.source, pairs.target, *pairs.others)
            digest.update("\0".join((split, *("\n".join(side) for side in sides))).encode())
        return digest.hexdigest()[:16]


def load_corpus(config: TranslationConfig, *, train: bool) -> Corpus:
    """Read and check the splits that a run needs.

    Args:
        config: settings with data, languages and splits.
        train: read the training set, and ``valid`` with it. Otherwise ``valid`` is optional.
    Raises:
        DataError: data are missing or invalid; with file and line.
        MissingPackageError: data by name, or the CLDR, need a package that is not installed.
    """
    name = "" if config.data is None else str(config.data)
    if train and name.startswith(SACREBLEU):
        raise MissingDataError(
            name,
            needs="have the split `train`",
            has="sacreBLEU has test sets only",
            hint="Name a folder of aligned files, or leave `data` out to use the CLDR.",
        )
    needed = dict.fromkeys([*(("train", "valid") if train else ()), *config.evaluate_on])
    langs = config.source_lang, config.target_lang
    find = _finder(config, name, langs, list(needed))
    optional = {} if "valid" in needed or name.startswith(SACREBLEU) else _if_there(find, "valid")
    splits = optional | {
        split: _sacrebleu(split, langs) if split.startswith(SACREBLEU) else find(split)
        for split in needed
    }
    if train and (count := config.train_pairs) is not None:
        splits["train"] = splits["train"].first(count)
    return Corpus(name=name or "CLDR", splits=splits)


Find: TypeAlias = Callable[[str], Pairs]


def _if_there(find: Find, split: str) -> dict[str, Pairs]:
    """Read a split that the data may lack."""
    try:
        return {split: find(split)}
    except MissingDataError:
        return {}


def _finder(config: TranslationConfig, name: str, langs: Langs, wanted: Sequence[str]) -> Find:
    """Return a function that reads a split of the data."""
    skip = config.empty_lines == "skip"
    if config.data is None:
        return _cldr(config, langs)
    if name.startswith(SACREBLEU):
        return lambda _: _sacrebleu(name, langs)
    if (hub := hub_name(config.data)) is not None:
        found = _load_hub(name, hub, langs)
        return lambda split: _hub_split(name, found, split, langs, skip_empty=skip)
    folder = config.data
    for split in wanted:  # all are looked for before a long one is read
        if not split.startswith(SACREBLEU):
            _find_split(folder, split, langs)
    return lambda split: _read_split(_find_split(folder, split, langs), split, skip_empty=skip)


def _cldr(config: TranslationConfig, langs: Langs) -> Find:
    train = config.train_pairs or PHRASES
    found = phrase_pairs(*langs, count=2 * HELD_OUT + train, seed=SEED)
    begins = {"test": 0, "valid": HELD_OUT, "train": 2 * HELD_OUT}

    def find(split: str) -> Pairs:
        if split not in begins:
            raise MissingDataError(
                "CLDR",
                needs=f"have the split `{split}`",
                has=f"it has {', '.join(sorted(begins))}",
                hint="Change `evaluate_on`, or name a folder as `data`.",
            )
        begin = begins[split]
        part = found[begin : begin + (train if split == "train" else HELD_OUT)]
        return Pairs(
            origin=f"CLDR, {split}",
            source=tuple(source for source, _ in part),
            target=tuple(target for _, target in part),
        )

    return find


# ------------------------------------------------------------------------------ lines and pairs


def numbered_lines(path: Path) -> list[Numbered]:
    """Read the lines of a file, stripped of spaces; ``.gz`` is unpacked.

    Only line feeds end a line, with or without a carriage return. Unicode has other line ends,
    which published files have inside of sentences: they would break the alignment.

    Raises:
        DataError: the file cannot be unpacked, is not UTF-8, or a line begins with a byte order
            mark; with file and line.
    """
    text = _read(path).removesuffix("\n")
    return [(n, line.strip()) for n, line in enumerate(text.split("\n"), 1)] if text else []


def _read(path: Path) -> str:
    raw = path.read_bytes()
    text = decoded(_unpacked(raw, path) if path.suffix == ".gz" else raw)
    if isinstance(text, Foreign):
        raise encoding_error(path, text.line, byte=text.byte, guess=text.guess)
    if text.startswith(BOM) or f"\n{BOM}" in text:  # in the middle where files were joined
        place = 0 if text.startswith(BOM) else text.index(f"\n{BOM}") + 1
        raise DataError(
            path,
            text.count("\n", 0, place) + 1,
            needs="begin with a sentence",
            has="begins with a byte order mark, which would become a part of its first word",
            hint=r"Remove it, for example with `sed -i 's/\xef\xbb\xbf//'`.",
        )
    return text


def _unpacked(raw: bytes, path: Path) -> bytes:
    try:
        return gzip.decompress(raw)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            path,
            needs="be a complete gzip file",
            has=f"cannot be unpacked ({error})",
            hint="Fetch it again, or remove .gz from its name if it is plain text.",
        ) from error


def align(
    source: Sequence[Numbered],
    target: Sequence[Numbered],
    *,
    places: tuple[Path | str, Path | str],
    split: str,
    skip_empty: bool = False,
    skippable: bool = False,
) -> Pairs:
    """Pair the lines of two languages.

    Args:
        source: lines of the source language.
        target: lines of the target language.
        places: their files, for errors.
        split: name of the split, for errors.
        skip_empty: leave out pairs with an empty line.
        skippable: whether the error may recommend to leave them out.
    Raises:
        DataError: a file has no words, the files differ in their number of lines, or a line is
            empty; with file and line.
    """
    for lines, place in zip((source, target), places, strict=True):
        if not any(text for _, text in lines):
            raise _no_sentences(place, split)
    if len(source) != len(target):
        raise _misaligned(places, (len(source), len(target)))
    if not skip_empty:
        for lines, place in zip((source, target), places, strict=True):
            _check_no_empty(lines, place, skippable)
    kept = [(s, t) for (_, s), (_, t) in zip(source, target, strict=True) if s and t]
    origin = f"{places[0]} and {places[1]}"
    if not kept:
        raise _no_sentences(origin, split)
    sides = zip(*kept, strict=True)
    return Pairs(
        origin=origin,
        source=next(sides),
        target=next(sides),
        left_out=len(source) - len(kept),
    )


def _no_sentences(place: Path | str, split: str) -> DataError:
    return DataError(
        place,
        needs=f"hold the sentences of the split `{split}`",
        has="holds none",
        hint="Fetch the file again, or name another folder.",
    )


def _misaligned(places: tuple[Path | str, Path | str], lines: tuple[int, int]) -> DataError:
    longer, shorter = places if lines[0] > lines[1] else places[::-1]
    return DataError(
        longer,
        min(lines) + 1,
        needs=f"have a partner in `{shorter}`",
        has=f"`{places[0]}` and `{places[1]}` have {lines[0]:,} and {lines[1]:,} lines",
        hint="Lines are missing or too many somewhere before it: fetch both files again.",
    )


def _check_no_empty(lines: Iterable[Numbered], place: Path | str, skippable: bool) -> None:
    empty = [number for number, text in lines if not text]
    if empty:
        more = f" (and {len(empty) - 1:,} more are empty)" if len(empty) > 1 else ""
        skip = ", or leave such pairs out with `empty_lines` = skip" if skippable else ""
        raise DataError(
            place,
            empty[0],
            needs="hold a sentence",
            has=f"is empty{more}",
            hint=f"Remove the line from both files{skip}.",
        )


# --------------------------------------------------------------------------- folders and files


@dataclass(frozen=True)
class _Files:
    """Files of one split in one language, in order."""

    paths: tuple[Path, ...]
    reader: Reader
    lang: str

    @property
    def complete(self) -> bool:
        """Whether there are any, and none is missing."""
        return bool(self.paths) and all(path.is_file() for path in self.paths)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the files without their language."""
        names = (path.name.removesuffix(".gz").removesuffix(".xml") for path in self.paths)
        return tuple(name.removesuffix(f".{self.lang}") for name in names)

    @property
    def place(self) -> str:
        """Name of the first file, and the number of others."""
        more = f" (and {len(self.paths) - 1} more)" if len(self.paths) > 1 else ""
        return f"{self.paths[0]}{more}"


def _find_split(folder: Path, split: str, langs: Langs) -> tuple[_Files, _Files]:
    """Find the files of a split in both languages.

    Raises:
        MissingDataError: there are none; the message names those that are looked for.
        DataError: one of several files exists in one language only.
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
    raise MissingDataError(
        folder,
        needs=f"be a folder with the split `{split}` as {'; or '.join(names)}",
        has=_content(folder),
        hint="Name a folder of aligned files in the layout of plain files, Multi30k or IWSLT, "
        "check `source_lang` and `target_lang`, or leave `data` out to use phrases from the CLDR.",
    )


def _candidates(folder: Path, split: str, langs: Langs) -> Iterator[tuple[_Files, _Files]]:
    """List all files that may be a split: plain files first."""
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


def _check_partners(source: _Files, target: _Files) -> None:
    for files, others in ((source, target), (target, source)):
        for path, part in zip(files.paths, files.parts, strict=True):
            if part not in others.parts:
                raise DataError(
                    path,
                    needs="have a file of the same name for the other language beside it",
                    has="there is none",
                    hint="Fetch the other file, or remove this one.",
                )


def _plain(folder: Path, ending: str, name: str, lang: str) -> _Files:
    return _Files((folder / ending.format(name=name, lang=lang),), numbered_lines, lang)


def _iwslt(folder: Path, split: str, pair: str, lang: str) -> _Files:
    if split == "train":
        return _Files((folder / f"train.tags.{pair}.{lang}",), _tagged_lines, lang)
    years = YEARS.get(split, split)
    found = sorted(folder.glob(f"IWSLT*.{years}.{pair}.{lang}.xml"))
    return _Files(tuple(found), _segments, lang)


def _content(folder: Path) -> str:
    if not folder.is_dir():
        return "that is not a folder"
    names = sorted(path.name for path in folder.iterdir())
    return f"the folder holds {', '.join(names[:8]) or 'nothing'}"


def _read_split(files: tuple[_Files, _Files], split: str, *, skip_empty: bool) -> Pairs:
    train, (source, target) = split == "train", files
    parts = [
        align(
            source.reader(one),
            target.reader(other),
            places=(one, other),
            split=split,
            skip_empty=skip_empty and train,
            skippable=train,
        )
        for one, other in zip(source.paths, target.paths, strict=True)
    ]
    return Pairs(
        origin=" and ".join(side.place for side in files),
        source=tuple(line for part in parts for line in part.source),
        target=tuple(line for part in parts for line in part.target),
        left_out=sum(part.left_out for part in parts),
    )


def _segments(path: Path) -> list[Numbered]:
    """Read the sentences of ``IWSLT14.TED.dev2010.de-en.de.xml``, each with its line.

    Lines are matched one by one, as the published files have bare ampersands, which are not XML. A
    line may hold several segments.

    Raises:
        DataError: no line holds a segment, or a segment does not end on its line.
    """
    found: list[Numbered] = []
    for number, line in numbered_lines(path):
        segments = SEGMENT.findall(line)
        found += [(number, html.unescape(text).strip()) for text in segments]
        if len(OPENING.findall(line)) > len(segments):
            raise DataError(
                path,
                number,
                needs="hold segments that end on their line, <seg id=...>...</seg>",
                has="a segment does not end",
                hint="Fetch the file again.",
            )
    if not found:
        needs, hint = "be a file with <seg> lines", "Fetch the file again."
        raise DataError(path, needs=needs, has="it has no segments", hint=hint)
    return found


def _tagged_lines(path: Path) -> list[Numbered]:
    """Read the sentences of ``train.tags.de-en.de``, titles and descriptions among them."""
    found: list[Numbered] = []
    for number, line in numbered_lines(path):
        tag = TAG.match(line)
        if tag is None:
            found.append((number, line))
        elif tag[1].lower() in SENTENCES:
            found.append((number, TAG.sub("", line).strip()))
    return found


# ---------------------------------------------------------------------------- data sets by name


def _unknown_set(name: str, library: str, finding: str) -> MissingDataError:
    return MissingDataError(
        name,
        needs=f"be a translation set that {library} can read",
        has=finding,
        hint="Check the name, the languages and the network, or name a folder.",
    )


def _load_hub(name: str, hub: HubName, langs: Langs) -> Any:
    """Load a data set by ``datasets``: a mapping of splits.

    Args:
        name: the set as it was named, for errors.
        hub: the set; its name may be a folder. Without a configuration, that of the two languages
            in either order is used, or else the only one.
        langs: both languages.
    Raises:
        MissingDataError: it cannot be loaded.
        MissingPackageError: datasets is not installed.
    """
    try:
        from datasets import (  # type: ignore[import-untyped]
            load_dataset,
            load_from_disk,
        )
    except ModuleNotFoundError as error:
        raise MissingPackageError(package="datasets", extra="hf") from error
    path, chosen = hub
    try:
        if (Path(path) / "dataset_dict.json").is_file():
            return load_from_disk(path)
        return load_dataset(path, chosen or _hub_config(path, langs))
    except Exception as error:  # the package raises errors of any class
        raise _unknown_set(name, "datasets", _first_line(error)) from error


def _hub_config(path: str, langs: Langs) -> str | None:
    from datasets import get_dataset_config_names

    known = get_dataset_config_names(path)
    wanted = [f"{one}{sign}{other}" for one, other in (langs, langs[::-1]) for sign in "-_"]
    return next((name for name in known if name.endswith(tuple(wanted))), None)


def _hub_split(
    name: str, found: Mapping[str, Any], split: str, langs: Langs, *, skip_empty: bool
) -> Pairs:
    """Read the pairs of a split: a column ``translation`` of both languages, or one for each.

    Raises:
        MissingDataError: there is no such split or column.
        DataError: a row is not text, or is empty; rows are counted from 1 like lines.
    """
    key = next((n for n in HUB_SPLITS.get(split, (split,)) if n in found), None)
    if key is None:
        finding = f"it has the splits {', '.join(found)}, and no `{split}`"
        raise _unknown_set(name, "datasets", finding)
    rows = found[key]
    columns: Sequence[Iterable[object]]
    if "translation" in rows.column_names:
        both = list(_both(name, key, rows["translation"], langs))
        columns = [[row[lang] for row in both] for lang in langs]
    elif set(langs) <= set(rows.column_names):
        columns = [rows[lang] for lang in langs]
    else:
        finding = f"its columns are {', '.join(rows.column_names)}"
        raise _unknown_set(name, "datasets", finding)
    places = (f"{name}, split {key}, {langs[0]}", f"{name}, split {key}, {langs[1]}")
    sides = [list(_cells(place, cells)) for place, cells in zip(places, columns, strict=True)]
    return align(
        sides[0],
        sides[1],
        places=places,
        split=split,
        skip_empty=skip_empty and split == "train",
        skippable=split == "train",
    )


def _both(
    name: str, key: str, rows: Iterable[object], langs: Langs
) -> Iterator[Mapping[str, object]]:
    """Read a column of both languages; a null row is empty in both."""
    for number, row in enumerate(rows, 1):
        found = dict.fromkeys(langs) if row is None else row
        if not isinstance(found, Mapping):
            raise DataError(
                f"{name}, split {key}, translation",
                number,
                needs="be a mapping of languages to sentences",
                has=f"is a {type(row).__name__}",
                hint="Name another data set.",
            )
        if missing := [lang for lang in langs if lang not in found]:
            finding = f"its languages are {', '.join(found)}, without {', '.join(missing)}"
            raise _unknown_set(name, "datasets", finding)
        yield found


def _cells(place: str, cells: Iterable[object]) -> Iterator[Numbered]:
    """Read a column as lines; null is empty."""
    for number, cell in enumerate(cells, 1):
        text = "" if cell is None else cell
        if not isinstance(text, str):
            finding, hint = f"is a {type(cell).__name__}", "Name another data set."
            raise DataError(place, number, needs="be text", has=finding, hint=hint)
        yield number, " ".join(text.split("\n")).strip()


def _sacrebleu(name: str, langs: Langs) -> Pairs:
    """Read a test set of sacreBLEU with all of its references, downloaded if needed.

    Raises:
        MissingDataError: there is none of this name and direction, or the download failed.
        MissingPackageError: sacrebleu is not installed.
    """
    try:
        from sacrebleu.dataset import DATASETS
    except ModuleNotFoundError as error:
        raise MissingPackageError(package="sacrebleu", extra="translation") from error
    bare, direction = name.removeprefix(SACREBLEU), "-".join(langs)
    known = [n for n, s in DATASETS.items() if direction in s.langpairs]
    if bare not in known:
        finding = f"of {direction} it has {', '.join(known[:12]) or 'none'}"
        raise _unknown_set(name, "sacrebleu", finding)
    try:
        found: Any = DATASETS[bare]
        source = Path(found.get_source_file(direction))
        references = [Path(path) for path in found.get_reference_files(direction)]
    except (Exception, SystemExit) as error:  # it ends the process where a download fails
        raise _unknown_set(name, "sacrebleu", _first_line(error)) from error
    sides = [
        align(numbered_lines(source), numbered_lines(path), places=(source, path), split=name)
        for path in references
    ]
    return Pairs(
        origin=name,
        source=sides[0].source,
        target=sides[0].target,
        others=tuple(side.target for side in sides[1:]),
    )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(". ")


# --------------------------------------------------------------------------- tokens and batches

PairRow: TypeAlias = dict[str, Tensor]
"""A sentence and its translation: ``source`` ``[S]`` and ``target`` ``[T]``, int64."""


@final
class Ragged:
    """Token sequences of different lengths in one array: lists would take ten times the memory.

    Args:
        lengths: ``[N]``, length of each sequence.
        tokens: ``[sum of lengths]``, all of them in order.
    """

    def __init__(self, lengths: NDArray[np.int64], tokens: NDArray[np.int32]) -> None:
        self.lengths, self.tokens = lengths, tokens
        self._ends = lengths.cumsum()

    @classmethod
    def of(cls, rows: Iterable[Sequence[int]]) -> Ragged:
        """Join sequences."""
        parts = [np.asarray(row, dtype=np.int32) for row in rows]
        lengths = np.asarray([len(part) for part in parts], dtype=np.int64)
        return cls(lengths, np.concatenate(parts) if parts else np.empty(0, dtype=np.int32))

    @classmethod
    def kept(cls, about: Iterable[object], rows: Callable[[], Iterable[Sequence[int]]]) -> Ragged:
        """Join sequences, or find them joined in the cache; see `embshare.tasks.cache.kept`."""

        def make() -> dict[str, Tensor]:
            made = cls.of(rows())
            return {name: torch.from_numpy(getattr(made, name)) for name in ("lengths", "tokens")}

        found = kept_tensors("sentences", about, make)
        return cls(found["lengths"].numpy(), found["tokens"].numpy())

    def __getitem__(self, index: int) -> Tensor:
        end = self._ends[index]
        return torch.from_numpy(self.tokens[end - self.lengths[index] : end].astype(np.int64))


@final
class PairRows(Dataset[PairRow]):
    """Encoded pairs, without those of which a sentence is too long.

    Args:
        source: tokens of each sentence, with the end token.
        target: tokens of each translation, with the end token.
        longest: maximum length in tokens; ``None`` keeps all pairs.
    """

    def __init__(self, source: Ragged, target: Ragged, *, longest: int | None = None) -> None:
        self._source, self._target = source, target
        both = np.maximum(self._source.lengths, self._target.lengths)
        self._kept = np.flatnonzero(both <= (both.max(initial=0) if longest is None else longest))
        self.lengths: list[int] = both[self._kept].tolist()
        """Length of each row: of its longer sentence."""
        self.too_long = len(both) - len(self._kept)
        """Number of pairs that were left out."""

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> PairRow:
        place = int(self._kept[index])
        return {"source": self._source[place], "target": self._target[place]}

    @property
    def longest(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Longest source and longest target: the number of the pair, from 1 and with those left
        out, and its length. There must be a pair."""
        sides = (self._source.lengths[self._kept], self._target.lengths[self._kept])
        first, second = ((int(self._kept[side.argmax()]) + 1, int(side.max())) for side in sides)
        return first, second

    @property
    def tokens(self) -> tuple[int, int]:
        """Total number of source and of target tokens."""
        sides = (self._source.lengths, self._target.lengths)
        first, second = (int(side[self._kept].sum()) for side in sides)
        return first, second


def pad_rows(rows: Sequence[Tensor], fill: int) -> Tensor:
    """Stack rows ``[T_i]`` to ``[B, T]``, padded on the right."""
    return pad_sequence(list(rows), batch_first=True, padding_value=fill)


@dataclass(frozen=True)
class Collate:
    """Makes a batch: ``input_ids`` and ``attention_mask`` ``[B, S]``, ``labels`` ``[B, T]``."""

    pad: int

    def __call__(self, rows: Sequence[PairRow]) -> Batch:
        sources = [row["source"] for row in rows]
        return {
            "input_ids": pad_rows(sources, self.pad),
            "attention_mask": pad_rows([torch.ones_like(row) for row in sources], 0),
            "labels": pad_rows([row["target"] for row in rows], IGNORED),
        }
