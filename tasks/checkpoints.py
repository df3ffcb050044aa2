"""Read the checkpoints that a ``Trainer`` wrote into a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["Checkpoint", "read_checkpoints"]

PREFIX: Final = "checkpoint-"
STATE: Final = "trainer_state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was written completely."""

    folder: Path
    step: int
    history: tuple[dict[str, Any], ...]
    """Points of the training curve up to this step."""

    @property
    def seconds(self) -> float:
        """Training time up to the last logged point; 0 where none was logged."""
        return max((point.get("seconds", 0.0) for point in self.history), default=0.0)


def read_checkpoints(folder: Path) -> list[Checkpoint]:
    """List the checkpoints in a folder by step, without those that a killed run left incomplete.

    The trainer's state is the file that is written last: where it can be read, the checkpoint is
    complete.
    """
    return sorted(_whole(folder), key=lambda checkpoint: checkpoint.step)


def _whole(folder: Path) -> Iterator[Checkpoint]:
    for path in folder.glob(f"{PREFIX}*"):
        try:
            state = json.loads((path / STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        yield Checkpoint(path, int(state["global_step"]), tuple(state["log_history"]))
