"""Tasks by name: their settings and classes are imported when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from embshare.tasks.settings import TaskConfig

if TYPE_CHECKING:  # imports torch, which the command line's help does not wait for
    from embshare.tasks.task import Task

__all__ = ["TASKS", "TaskEntry"]


@dataclass(frozen=True)
class TaskEntry:
    """A task that can be trained, evaluated and used from the command line."""

    package: str
    """Package in this one, with the modules ``config`` and ``task``."""
    name: str
    """Name of the class in ``task``, and with ``Config`` appended of the class in ``config``."""
    summary: str
    """Sentence that the command line's help shows."""
    compared: bool = True
    """Whether `embshare bench` runs it by default."""
    matched_only: bool = False
    """Whether its models are the matched family and factories, and none of transformers."""

    def settings_class(self) -> type[TaskConfig]:
        """Class of its settings, which have ``data`` and ``training``."""
        found: type[TaskConfig] = getattr(
            import_module(f"embshare.tasks.{self.package}.config"), f"{self.name}Config"
        )
        return found

    def recipes(self) -> Mapping[str, Path]:
        """Files of published settings by name; some tasks have none."""
        folder = Path(__file__).parent / self.package / "recipes"
        return {path.stem: path for path in sorted(folder.glob("*.yaml"))}

    def task(self, settings: TaskConfig) -> Task[Any]:
        """Task with these settings; no data are read yet."""
        made: Task[Any] = getattr(import_module(f"embshare.tasks.{self.package}.task"), self.name)(
            settings
        )
        return made


TASKS: Final[Mapping[str, TaskEntry]] = MappingProxyType(
    {
        "language_modelling": TaskEntry(
            "language_modelling",
            "LanguageModelling",
            "Language modelling: predict the next word or subword; scored by perplexity.",
        ),
        "translation": TaskEntry(
            "translation",
            "Translation",
            "Machine translation between two languages; scored by BLEU and chrF.",
        ),
        "captioning": TaskEntry(
            "captioning",
            "Captioning",
            "Image captioning; scored by CIDEr, BLEU, METEOR and ROUGE-L.",
            matched_only=True,
        ),
        "glue": TaskEntry(
            "glue",
            "Glue",
            "Classify sentences and sentence pairs: the nine GLUE tasks, by their own metrics.",
        ),
        "squad": TaskEntry(
            "squad",
            "Squad",
            "Extractive question answering: SQuAD 1.1 and 2.0; scored by F1 and exact match.",
            compared=False,
        ),
        "pretraining": TaskEntry(
            "pretraining",
            "Pretraining",
            "Masked language modelling; scored by the perplexity of masked tokens.",
            compared=False,
        ),
    }
)
