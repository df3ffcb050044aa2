"""One reader for all tasks: files of the GLUE download, JSON lines, or a set of the hub."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from embshare.tasks.glue.table import GlueTask, Part
from embshare.tasks.text.errors import BadFileError, BadLineError, SetNotFoundError
from embshare.tasks.text.files import read_lines

__all__ = ["HIGHEST", "Data", "Example", "parse_label", "read_folder", "read_hub"]

HIGHEST: Final = 5.0
"""Of the scores of STS-B."""
ENDINGS: Final = (".tsv", ".jsonl")


@dataclass(frozen=True)
class Example:
    """A row of a file."""

    index: str
    """By which the GLUE server knows it."""
    texts: tuple[str, ...]
    label: float | int | None
    """A class's number, or a score; ``None`` in a test file."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """All files of a task that are there."""

    name: str
    """Where they came from, for a report."""
    train: tuple[Example, ...]
    dev: Mapping[Part, tuple[Example, ...]]
    test: Mapping[Part, tuple[Example, ...]]
    skipped: int = 0
    """Lines that were left out because they are not as they must be."""
    absent: tuple[str, ...] = ()
    """Files that the task can do without and that were looked for, by their published names."""


@dataclass
class _Reader:
    task: GlueTask
    skip_bad_rows: bool
    skipped: int = 0

    def read(self, path: Path, *, labelled: bool) -> tuple[Example, ...]:
        """All rows of a file.

        Raises:
            BadFileError: it is empty, not UTF-8, or a line of it is not as it must be.
        """
        lines = read_lines(path)
        rows = self._jsonl if path.suffix == ".jsonl" else self._tsv
        found = tuple(rows(path, lines, labelled))
        if not found:
            raise BadFileError(
                path=path,
                needs=f"hold rows of {self.task.folder}",
                finding="has none",
                way_out="Fetch the file again, or name another folder.",
            )
        return found

    def _tsv(self, path: Path, lines: list[str], labelled: bool) -> Iterator[Example]:
        bare = self.task.bare if labelled else None
        header = bare or tuple(lines[0].split("\t") if lines else ())
        wanted = (*self.task.columns, *((self.task.label,) if labelled else ()))
        if missing := [name for name in wanted if name not in header]:
            raise BadLineError(
                path=path,
                line=1,
                needs=f"name the column `{missing[0]}`",
                finding=f"has {', '.join(f'`{name}`' for name in header)}",
                way_out=f"Take the file of GLUE's {self.task.folder}.",
            )
        first = 0 if bare else 1
        places = {name: place for place, name in enumerate(header)}
        for number, line in enumerate(lines[first:], first + 1):
            cells = line.split("\t")
            try:
                if len(cells) != len(header):
                    way_out = _way_out(labelled=labelled)
                    raise _columns(path, number, len(cells), len(header), way_out)
                row = {name: cells[place] for name, place in places.items()}
                label = self._label(path, number, row[self.task.label]) if labelled else None
            except BadLineError:
                if not (self.skip_bad_rows and labelled):
                    raise
                self.skipped += 1
                continue
            texts = tuple(row[name] for name in self.task.columns)
            yield Example(row.get("index", str(number - first - 1)), texts, label)

    def _jsonl(self, path: Path, lines: list[str], labelled: bool) -> Iterator[Example]:
        for number, line in enumerate(lines, 1):
            try:
                row = self._object(path, number, line, labelled)
                label = self._label(path, number, row["label"]) if labelled else None
            except BadLineError:
                if not (self.skip_bad_rows and labelled):
                    raise
                self.skipped += 1
                continue
            texts = tuple(row[name] for name in self.task.fields)
            yield Example(str(row.get("idx", number - 1)), texts, label)

    def _object(self, path: Path, number: int, line: str, labelled: bool) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        wanted = (*self.task.fields, *(("label",) if labelled else ()))
        names = " and ".join(f"`{name}`" for name in wanted)
        if not isinstance(row, dict) or any(name not in row for name in wanted):
            finding = "lacks one" if isinstance(row, dict) else "is none"
        elif any(not isinstance(row[name], str) for name in self.task.fields):
            finding = "has a sentence that is no string"
        else:
            return row
        raise BadLineError(
            path=path,
            line=number,
            needs=f"be a JSON object with {names}",
            finding=finding,
            way_out=_way_out(labelled=labelled),
        )

    def _label(self, path: Path, line: int, found: object) -> float | int:
        label = parse_label(self.task, found)
        if label is None:
            raise BadLineError(
                path=path,
                line=line,
                needs=f"have {describe_labels(self.task)} as its label",
                finding=f"has {found!r:.40}",
                way_out=_way_out(labelled=True),
            )
        return label


def _columns(path: Path, line: int, has: int, needs: int, way_out: str) -> BadLineError:
    return BadLineError(
        path=path,
        line=line,
        needs=f"have {needs} columns with tabs between",
        finding=f"has {has}",
        way_out=way_out,
    )


def _way_out(*, labelled: bool) -> str:
    """A test line is not left out: the GLUE server takes a prediction for each, or none at all."""
    if labelled:
        return "Mend the line, or leave such lines out with `skip_bad_rows`."
    return "Mend the line, or leave the test side out (`test_side`)."


def parse_label(task: GlueTask, found: object) -> float | int | None:
    """A label of a file as a number; ``None`` where it is not one of the task's."""
    if task.labels is None:
        try:
            score = float(str(found))
        except ValueError:
            return None
        return score if math.isfinite(score) and 0 <= score <= HIGHEST else None
    if isinstance(found, int) and not isinstance(found, bool):
        return found if 0 <= found < len(task.labels) else None
    return task.labels.index(found) if found in task.labels else None


def describe_labels(task: GlueTask) -> str:
    """What a label can be, in words."""
    if task.labels is None:
        return f"a number from 0 to {HIGHEST:g}"
    return " or ".join((", ".join(task.labels[:-1]), task.labels[-1]))


def read_folder(
    task: GlueTask,
    folder: Path,
    *,
    train: bool = True,
    skip_bad_rows: bool = False,
    test_side: bool = True,
) -> Data:
    """Read a task from the folder of all GLUE tasks, or from its own one.

    Args:
        task: a row of the table.
        folder: ``glue_data`` with ``CoLA`` in it, or that ``CoLA``.
        train: whether the training side is read; it need not be there to score a model.
        skip_bad_rows: leave out lines of wrong column counts and labels, and count them; those of
            the test side never.
        test_side: whether it is read, as far as it is there.
    Raises:
        BadFileError: a file that is needed is missing; or one is empty, not UTF-8, or a line of it
            is not as it must be.
    """
    home = folder / task.folder if (folder / task.folder).is_dir() else folder
    reader = _Reader(task, skip_bad_rows)
    trains, tests = (task.train,) if train else (), task.test if test_side else ()
    paths = {part: _find(home, part, task) for part in (*trains, *task.dev, *tests)}

    def read(parts: tuple[Part, ...], *, labelled: bool) -> dict[Part, tuple[Example, ...]]:
        there = {part: path for part in parts if (path := paths[part]) is not None}
        return {part: reader.read(path, labelled=labelled) for part, path in there.items()}

    found = read(trains, labelled=True)
    dev, test = read(task.dev, labelled=True), read(tests, labelled=False)
    return Data(
        name=str(home),
        train=found.get(task.train, ()),
        dev=dev,
        test=test,
        skipped=reader.skipped,
        absent=tuple(part.stems[0] for part, path in paths.items() if path is None),
    )


def _find(home: Path, part: Part, task: GlueTask) -> Path | None:
    place = home if part.folder is None else home.parent / part.folder
    for stem in part.stems:
        for ending in ENDINGS:
            if (place / f"{stem}{ending}").is_file():
                return place / f"{stem}{ending}"
    if not part.needed:
        return None
    if home.is_dir():
        found = ", ".join(sorted(path.name for path in home.iterdir())[:8]) or "nothing"
        has = f"holds {found}"
    else:
        has = "is not there"
    raise BadFileError(
        path=home,
        needs=f"be a folder with {part.stems[0]}.tsv (or .jsonl) of {task.folder}",
        finding=has,
        way_out="Name the folder of the GLUE download, or of this task in it.",
    )


def read_hub(task: GlueTask, name: str, *, train: bool = True, test_side: bool = True) -> Data:
    """Load a task with the package ``datasets``.

    Args:
        task: a row of the table.
        name: of the set on the hub (``nyu-mll/glue``), or a folder with such a set.
        train: as in `read_folder`.
        test_side: whether it is read, as far as it is there.
    Raises:
        SetNotFoundError: there is none, it cannot be fetched, a split has no rows, or its columns
            or labels are others.
    """
    trains, tests = (task.train,) if train else (), task.test if test_side else ()
    parts = {part: part not in tests for part in (*trains, *task.dev, *tests)}
    configs = {config: _hub_splits(name, config) for config in _configs(task, parts)}
    found: dict[Part, tuple[Example, ...]] = {}
    for part, labelled in parts.items():
        config = part.config or task.name
        rows = configs[config].get(part.hub)
        if rows is not None:
            found[part] = _hub_part(task, name, part, rows, labelled)
        elif part.needed:
            finding = f"its configuration `{config}` has no split {part.hub}"
            raise SetNotFoundError(name=name, finding=finding)
    return Data(
        name=name,
        train=found.get(task.train, ()),
        dev={part: found[part] for part in task.dev if part in found},
        test={part: found[part] for part in tests if part in found},
        absent=tuple(part.stems[0] for part in parts if part not in found),
    )


def _configs(task: GlueTask, parts: Iterable[Part]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.config or task.name for part in parts))


def _hub_splits(name: str, config: str) -> Mapping[str, Any]:
    """The splits of a configuration; none where the set has no such configuration.

    All other errors are raised: a network that fails is no reason to go without a side.
    """
    from datasets import load_dataset  # type: ignore[import-untyped]

    try:
        found: Mapping[str, Any] = load_dataset(name, config)
    except Exception as error:  # its errors have no class in common
        if f"BuilderConfig '{config}' not found" in str(error):
            return {}
        first = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise SetNotFoundError(name=name, finding=f"`{config}` cannot be had ({first})") from error
    return found


def _hub_part(
    task: GlueTask, name: str, part: Part, rows: Any, labelled: bool
) -> tuple[Example, ...]:
    wanted = {*task.fields, *({"label"} if labelled else ())}
    if missing := sorted(wanted - set(rows.column_names)):
        finding = f"{part.hub} has no column `{missing[0]}`"
        raise SetNotFoundError(name=name, finding=finding)
    found = tuple(_hub_rows(task, name, part, rows, labelled))
    if not found:
        raise SetNotFoundError(name=name, finding=f"{part.hub} has no rows")
    return found


def _hub_rows(
    task: GlueTask, name: str, part: Part, rows: Any, labelled: bool
) -> Iterator[Example]:
    for number, row in enumerate(rows):
        label = parse_label(task, row["label"]) if labelled else None
        if labelled and label is None:
            raise SetNotFoundError(
                name=name,
                finding=f"row {number:,} of {part.hub} has the label {row['label']!r}, which is "
                f"not {describe_labels(task)}",
            )
        texts = tuple(row[field] for field in task.fields)
        yield Example(str(row.get("idx", number)), texts, label)
