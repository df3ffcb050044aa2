"""Sets by name: those that ``datasets`` can load, and the test sets of sacreBLEU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from embshare.errors import MissingPackageError
from embshare.tasks.translation.errors import NamedSetError
from embshare.tasks.translation.reading import Numbered, Pairs, align, numbered_lines

__all__ = ["HUB", "SACREBLEU", "load_hub", "read_hub_split", "read_sacrebleu"]

HUB: Final = "hub:"
SACREBLEU: Final = "sacrebleu:"
SPLITS: Final = {"valid": ("validation", "valid", "dev")}


def load_hub(name: str, langs: tuple[str, str]) -> Any:
    """A set of ``datasets``: a mapping of splits.

    Args:
        name: ``hub:NAME`` or ``hub:NAME:CONFIG``; the name may be a folder. Without a
            configuration, that of the two languages in either order is taken, or else the only one.
        langs: the two languages.
    Raises:
        NamedSetError: it cannot be had.
        MissingPackageError: datasets is not installed.
    """
    try:
        from datasets import (  # type: ignore[import-untyped]
            load_dataset,
            load_from_disk,
        )
    except ModuleNotFoundError as error:
        raise MissingPackageError(package="datasets", extra="hf") from error
    path, _, chosen = name.removeprefix(HUB).partition(":")
    try:
        if (Path(path) / "dataset_dict.json").is_file():
            return load_from_disk(path)
        return load_dataset(path, chosen or _config_of(path, langs))
    except Exception as error:  # what the package raises has no class of its own
        raise NamedSetError(name=name, library="datasets", finding=_first_line(error)) from error


def _config_of(path: str, langs: tuple[str, str]) -> str | None:
    from datasets import get_dataset_config_names

    known = get_dataset_config_names(path)
    wanted = [f"{one}{sign}{other}" for one, other in (langs, langs[::-1]) for sign in "-_"]
    return next((name for name in known if name.endswith(tuple(wanted))), None)


def read_hub_split(
    name: str, found: Mapping[str, Any], split: str, langs: tuple[str, str], *, skip_empty: bool
) -> Pairs:
    """The pairs of a split: a column ``translation`` of both languages, or a column for each.

    Raises:
        NamedSetError: there is no such split, no such column, or a row that holds no text.
        PairsError: a row has an empty side; rows are counted from 1, as lines are.
    """
    key = next((n for n in SPLITS.get(split, (split,)) if n in found), None)
    if key is None:
        finding = f"it has the splits {', '.join(found)}, and no `{split}`"
        raise NamedSetError(name=name, library="datasets", finding=finding)
    rows = found[key]
    columns: Sequence[Iterable[object]]
    if "translation" in rows.column_names:
        both = list(_both(name, rows["translation"], langs))
        columns = [[row[lang] for row in both] for lang in langs]
    elif set(langs) <= set(rows.column_names):
        columns = [rows[lang] for lang in langs]
    else:
        finding = f"its columns are {', '.join(rows.column_names)}"
        raise NamedSetError(name=name, library="datasets", finding=finding)
    places = tuple(f"{name}, split {key}, {lang}" for lang in langs)
    sides = [
        list(_numbered(name, place, column)) for place, column in zip(places, columns, strict=True)
    ]
    return align(
        sides[0],
        sides[1],
        places=(places[0], places[1]),
        split=split,
        skip_empty=skip_empty and split == "train",
        skippable=split == "train",
    )


def _both(
    name: str, rows: Iterable[object], langs: tuple[str, str]
) -> Iterator[Mapping[str, object]]:
    """The rows of a column of both languages; one that is null has two empty sides."""
    for number, row in enumerate(rows, 1):
        found = dict.fromkeys(langs) if row is None else row
        if not isinstance(found, Mapping):
            finding = f"row {number:,} of `translation` is a {type(row).__name__} and no mapping"
            raise NamedSetError(name=name, library="datasets", finding=finding)
        if missing := [lang for lang in langs if lang not in found]:
            finding = f"its languages are {', '.join(found)}, without {', '.join(missing)}"
            raise NamedSetError(name=name, library="datasets", finding=finding)
        yield found


def _numbered(name: str, place: str, cells: Iterable[object]) -> Iterator[Numbered]:
    """Lines of a column; what is null is empty."""
    for number, cell in enumerate(cells, 1):
        text = "" if cell is None else cell
        if not isinstance(text, str):
            finding = f"{place}, row {number:,}, is a {type(cell).__name__} and no text"
            raise NamedSetError(name=name, library="datasets", finding=finding)
        yield number, " ".join(text.split("\n")).strip()


def read_sacrebleu(name: str, langs: tuple[str, str]) -> Pairs:
    """A test set of sacreBLEU, with all of its references; fetched where it is not yet.

    Raises:
        NamedSetError: there is none of that name and direction, or it cannot be fetched.
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
        raise NamedSetError(name=name, library="sacrebleu", finding=finding)
    try:
        found: Any = DATASETS[bare]
        source = found.get_source_file(direction)
        references = found.get_reference_files(direction)
    except (Exception, SystemExit) as error:  # it ends the process where a download fails
        raise NamedSetError(name=name, library="sacrebleu", finding=_first_line(error)) from error
    sides = [
        align(
            numbered_lines(Path(source)),
            numbered_lines(Path(path)),
            places=(source, path),
            split=name,
        )
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
