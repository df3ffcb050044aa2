"""Data, metrics and training: one package for each task, and the runs and studies of all."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if __name__ != "embshare.tasks":
    raise ImportError(f"this folder is the package embshare.tasks; it was imported as {__name__!r}")

if TYPE_CHECKING:
    from embshare.tasks.runs.config import RunConfig
    from embshare.tasks.runs.engine import run
    from embshare.tasks.runs.loading import FinishedRun, evaluate, load_run
    from embshare.tasks.runs.result import RunResult

__all__ = ["FinishedRun", "RunConfig", "RunResult", "evaluate", "load_run", "run"]

_PLACES = {
    "FinishedRun": "embshare.tasks.runs.loading",
    "RunConfig": "embshare.tasks.runs.config",
    "RunResult": "embshare.tasks.runs.result",
    "evaluate": "embshare.tasks.runs.loading",
    "load_run": "embshare.tasks.runs.loading",
    "run": "embshare.tasks.runs.engine",
}
"""Public name -> the module that defines it, imported when the name is used: each task needs its
own extras, and none of the others'."""


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
