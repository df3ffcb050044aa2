"""Folders, files and data sets that settings name: looked for before anything else is done."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Final, NamedTuple

from embshare.tasks.errors import MissingDataError
from embshare.tasks.settings import TaskConfig

__all__ = ["HUB", "HubName", "check_inputs", "hub_name"]

HUB: Final = "hub:"
"""Prefix of data that the package datasets loads: ``hub:NAME`` or ``hub:NAME:CONFIG``."""
SACREBLEU: Final = "sacrebleu:"
PLACES: Final = ("data", "images", "init_from")
"""Settings that name a folder or a file."""
SHOWN: Final = 8


class HubName(NamedTuple):
    """A data set of the Hugging Face hub, or a folder in that layout."""

    name: str
    configuration: str | None


def hub_name(data: Path | None) -> HubName | None:
    """Read ``hub:NAME`` or ``hub:NAME:CONFIG``; ``None`` where data are not named so."""
    text = "" if data is None else str(data)
    if not text.startswith(HUB):
        return None
    name, _, configuration = text.removeprefix(HUB).partition(":")
    return HubName(name, configuration or None)


def check_inputs(settings: TaskConfig) -> None:
    """Check that the folders and files that settings name are there, before any is read.

    Raises:
        MissingDataError: one is not; with what is beside it.
    """
    for name in PLACES:
        path: Path | None = getattr(settings, name, None)
        if path is None or str(path).startswith((HUB, SACREBLEU)) or path.exists():
            continue
        raise MissingDataError(
            path,
            needs=f"be a folder or a file (`{name}`)",
            has=f"is not there; {_beside(path)}",
            hint="Check its spelling and the folder that you are in.",
        )


def _beside(path: Path) -> str:
    """What the deepest folder of a path that exists holds, similar names first."""
    folder = next((parent for parent in path.parents if parent.is_dir()), Path())
    missing = path.relative_to(folder).parts[0] if path.is_relative_to(folder) else path.name
    names = sorted(each.name for each in folder.iterdir())
    near = get_close_matches(missing, names, n=SHOWN, cutoff=0.5)
    shown = (near or names)[:SHOWN]
    more = "" if len(shown) == len(names) or near else f" and {len(names) - len(shown)} more"
    return f"`{folder}` holds {', '.join(shown) or 'nothing'}{more}"
