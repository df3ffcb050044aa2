"""The checkpoints that a ``Trainer`` left in a folder."""

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
    """A folder that was written to its end."""

    folder: Path
    step: int
    history: tuple[dict[str, Any], ...]
    """What had been logged by then."""

    @property
    def seconds(self) -> float:
        """That training had taken when something was last logged; 0 where nothing was."""
        return max((point.get("seconds", 0.0) for point in self.history), default=0.0)


def read_checkpoints(folder: Path) -> list[Checkpoint]:
    """Those in a folder by rising step, without what a killed run left half written.

    The trainer's state is the file that is written last: where it can be read, the rest is there.
    """
    return sorted(_whole(folder), key=lambda checkpoint: checkpoint.step)


def _whole(folder: Path) -> Iterator[Checkpoint]:
    for path in folder.glob(f"{PREFIX}*"):
        try:
            state = json.loads((path / STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        yield Checkpoint(path, int(state["global_step"]), tuple(state["log_history"]))
