"""One reader for all tasks: files of the GLUE download, JSON lines, or a set of the hub."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
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
                    raise self._columns(path, number, has=len(cells), needs=len(header))
                row = {name: cells[place] for name, place in places.items()}
                label = self._label(path, number, row[self.task.label]) if labelled else None
            except BadLineError:
                if not self.skip_bad_rows:
                    raise
                self.skipped += 1
                continue
            texts = tuple(row[name] for name in self.task.columns)
            yield Example(row.get("index", str(number - first - 1)), texts, label)

    def _columns(self, path: Path, line: int, *, has: int, needs: int) -> BadLineError:
        return BadLineError(
            path=path,
            line=line,
            needs=f"have {needs} columns with tabs between",
            finding=f"has {has}",
            way_out="Mend the line, or leave such lines out with `skip_bad_rows`.",
        )

    def _jsonl(self, path: Path, lines: list[str], labelled: bool) -> Iterator[Example]:
        for number, line in enumerate(lines, 1):
            try:
                row = self._object(path, number, line, labelled)
                label = self._label(path, number, row["label"]) if labelled else None
            except BadLineError:
                if not self.skip_bad_rows:
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
            way_out="Mend the line, or leave such lines out with `skip_bad_rows`.",
        )

    def _label(self, path: Path, line: int, found: object) -> float | int:
        label = parse_label(self.task, found)
        if label is None:
            raise BadLineError(
                path=path,
                line=line,
                needs=f"have {describe_labels(self.task)} as its label",
                finding=f"has {found!r:.40}",
                way_out="Mend the line, or leave such lines out with `skip_bad_rows`.",
            )
        return label


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


def read_folder(task: GlueTask, folder: Path, *, skip_bad_rows: bool = False) -> Data:
    """Read a task from the folder of all GLUE tasks, or from its own one.

    Args:
        task: a row of the table.
        folder: ``glue_data`` with ``CoLA`` in it, or that ``CoLA``.
        skip_bad_rows: leave out lines of wrong column counts and labels, and count them.
    Raises:
        BadFileError: a file that is needed is missing; or one is empty, not UTF-8, or a line of it
            is not as it must be.
    """
    home = folder / task.folder if (folder / task.folder).is_dir() else folder
    reader = _Reader(task, skip_bad_rows)
    paths = {part: _find(home, part, task) for part in (task.train, *task.dev, *task.test)}

    def read(parts: tuple[Part, ...], *, labelled: bool) -> dict[Part, tuple[Example, ...]]:
        there = {part: path for part in parts if (path := paths[part]) is not None}
        return {part: reader.read(path, labelled=labelled) for part, path in there.items()}

    train = read((task.train,), labelled=True)[task.train]
    dev, test = read(task.dev, labelled=True), read(task.test, labelled=False)
    return Data(name=str(home), train=train, dev=dev, test=test, skipped=reader.skipped)


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


def read_hub(task: GlueTask, name: str) -> Data:
    """Load a task with the package ``datasets``.

    Args:
        task: a row of the table.
        name: of the set on the hub (``nyu-mll/glue``), or a folder with such a set.
    Raises:
        SetNotFoundError: there is none, or its columns or labels are others.
    """
    train = _hub_part(task, name, task.train)
    assert train is not None, "it is needed"
    dev = {part: rows for part in task.dev if (rows := _hub_part(task, name, part))}
    test = {part: rows for part in task.test if (rows := _hub_part(task, name, part, False))}
    return Data(name=name, train=train, dev=dev, test=test)


def _hub_part(
    task: GlueTask, name: str, part: Part, labelled: bool = True
) -> tuple[Example, ...] | None:
    from datasets import load_dataset  # type: ignore[import-untyped]

    try:
        rows = load_dataset(name, part.config or task.name, split=part.hub)
    except Exception as error:  # its errors have no class in common
        if not part.needed:
            return None
        first = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise SetNotFoundError(name=name, finding=f"{part.hub} cannot be had ({first})") from error
    wanted = {*task.fields, *({"label"} if labelled else ())}
    if missing := sorted(wanted - set(rows.column_names)):
        finding = f"{part.hub} has no column `{missing[0]}`"
        raise SetNotFoundError(name=name, finding=finding)
    return tuple(_hub_rows(task, name, part, rows, labelled))


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
