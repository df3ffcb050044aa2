"""Every task by name: where its settings and its class are, imported when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from embshare.tasks.settings import TaskConfig
from embshare.tasks.task import Task

__all__ = ["TASKS", "TaskEntry"]


@dataclass(frozen=True)
class TaskEntry:
    """A task that can be trained, evaluated and used from the command line."""

    package: str
    """Of this package, with the modules ``config`` and ``task``."""
    name: str
    """Of the class in ``task``; with ``Config`` behind it, of that in ``config``."""
    summary: str
    """One sentence, for people."""
    compared: bool = True
    """Whether `embshare bench` runs it unless other tasks are named."""

    def settings_class(self) -> type[TaskConfig]:
        """The class of its settings: with ``data`` and ``training``."""
        found: type[TaskConfig] = getattr(
            import_module(f"embshare.tasks.{self.package}.config"), f"{self.name}Config"
        )
        return found

    def recipes(self) -> Mapping[str, Path]:
        """Files of published settings by name, where the task has any."""
        folder = Path(__file__).parent / self.package / "recipes"
        return {path.stem: path for path in sorted(folder.glob("*.yaml"))}

    def task(self, settings: TaskConfig) -> Task[Any]:
        """The task with these settings; nothing is read yet."""
        made: Task[Any] = getattr(import_module(f"embshare.tasks.{self.package}.task"), self.name)(
            settings
        )
        return made


TASKS: Final[Mapping[str, TaskEntry]] = MappingProxyType(
    {
        "language_modelling": TaskEntry(
            "language_modelling",
            "LanguageModelling",
            "Predict the next word or subword of a text; scored by perplexity.",
        ),
        "translation": TaskEntry(
            "translation",
            "Translation",
            "Translate sentences of one language into another; scored by BLEU and chrF.",
        ),
        "captioning": TaskEntry(
            "captioning",
            "Captioning",
            "Describe images; scored by CIDEr, BLEU, METEOR and ROUGE-L.",
        ),
        "glue": TaskEntry(
            "glue",
            "Glue",
            "Classify sentences and pairs of them: the nine tasks of GLUE, by their own metrics.",
        ),
        "squad": TaskEntry(
            "squad",
            "Squad",
            "Find the answer to a question in a passage: SQuAD 1.1 and 2.0, by F1 and exact match.",
            compared=False,
        ),
        "pretraining": TaskEntry(
            "pretraining",
            "Pretraining",
            "Predict hidden words of a text from both sides; scored by their perplexity.",
            compared=False,
        ),
    }
)
