"""A small run."""

from pathlib import Path
from typing import Any

from embshare.tasks.runs.config import RunConfig
from tests._support.task_examples import EXAMPLES


def config(folder: Path, task: str = "language_modelling", **changes: Any) -> RunConfig:
    data = folder / "data"
    data.mkdir(exist_ok=True)
    settings = EXAMPLES[task].settings(data)
    settings["training"] |= changes.pop("training", {})
    settings |= changes.pop("settings", {})
    fields: dict[str, Any] = {"model": "conv", "out": folder / "run", "settings": settings}
    return RunConfig(task=task, **(fields | changes))
