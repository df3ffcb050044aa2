"""A folder that another program writes file by file, replaced so that its files stay of one save.

A process may be killed between any two files. Where one file differs from those in the folder,
as in a resumed training, its replacement is one step: the folder is the old one or the new one.
Where more differ, ``config.json`` is taken away first and comes back last: in between, which is
the time of a few renamings, the folder is refused by whoever looks for it. A kill in that moment
leaves no model that loads; what a folder never holds is a model of two saves.
"""

from __future__ import annotations

import filecmp
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["staged"]

CONFIG: Final = "config.json"
PREFIX: Final = ".saving-"
"""Prefix of the temporary folder; a killed process leaves it, and it may be deleted."""
_WEIGHTS: Final = re.compile(r"(.+?)(-\d{5}-of-\d{5})?\.(safetensors|bin)(\.index\.json)?")


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A folder within another one, whose files take their places there when the block ends.

    Args:
        folder: made where it is missing. Files of other names stay, but for weights of an earlier
            save in another number of parts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=folder) as name:
        yield Path(name)
        _move(Path(name), folder)


def _move(stage: Path, folder: Path) -> None:
    new = [path.relative_to(stage) for path in sorted(stage.rglob("*")) if path.is_file()]
    changed = [name for name in new if not _same(stage / name, folder / name)]
    stale = _of_other_parts({str(name) for name in new}, folder)
    for name in changed:
        with (stage / name).open("rb") as file:
            os.fsync(file.fileno())  # all that can fail comes before the first change
    config = Path(CONFIG)
    if len(changed) + len(stale) > 1 and config in new:
        (folder / config).unlink(missing_ok=True)
        changed = [*(name for name in changed if name != config), config]
    for path in stale:
        path.unlink()
    for name in changed:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (stage / name).replace(folder / name)


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def _of_other_parts(new: set[str], folder: Path) -> list[Path]:
    """Weights of the same kind under other names: transformers would read them first, or never."""
    kinds = {(found[1], found[3]) for name in new if (found := _WEIGHTS.fullmatch(name))}
    return [
        path
        for path in folder.iterdir()
        if path.name not in new
        and (found := _WEIGHTS.fullmatch(path.name))
        and (found[1], found[3]) in kinds
        and path.is_file()
    ]
