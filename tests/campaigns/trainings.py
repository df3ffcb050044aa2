"""A tiny `embshare train`, whose uninterrupted run the campaigns compare killed ones with."""

from __future__ import annotations

import json
import math
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn

import embshare
from embshare.tasks.checkpoints import read_checkpoints
from embshare.tasks.runs import engine
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.task import PreparedTask
from tests._support.task_examples import EXAMPLES
from tests.campaigns.rounds import die_within

__all__ = ["Reference", "curve_of", "make_reference", "measure", "scores_of", "train"]

SETTINGS: Final = {"steps": 24, "batch_size": 4, "save_every": 3, "log_every": 1}
MEASURED: Final = ("seconds",)
"""Fields of a point of a curve: what differs from run to run."""


@dataclass
class Reference:
    """An uninterrupted run."""

    config: RunConfig
    file: Path
    """The settings that the command line reads."""
    folder: Path
    seconds: float = math.inf
    curve: list[dict[str, float]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    checkpoints: dict[int, bytes] = field(default_factory=dict)
    """Step -> the weights file."""
    state: dict[str, Tensor] = field(default_factory=dict)
    task: PreparedTask | None = None

    def build(self) -> nn.Module:
        """The dense model that the run shared."""
        assert self.task is not None
        return self.task.processor.build(self.config.model, self.config.seed)


def train(reference: Reference, out: Path, *more: str) -> None:
    """`embshare train` on the command line, in this process.

    Raises:
        SystemExit: it did not end well.
    """
    from embshare.cli import app

    words = ["train", "language_modelling", "--config", str(reference.file), "--out", str(out)]
    code = app([*words, *more], standalone_mode=False)
    if code:
        raise SystemExit(code)


def curve_of(out: Path) -> list[dict[str, float]]:
    """The points of a run's curve, without what was measured by a clock."""
    points = json.loads((out / "curve.json").read_text(encoding="utf-8"))
    return [{k: v for k, v in point.items() if k not in MEASURED} for point in points]


def scores_of(out: Path) -> dict[str, Any]:
    """What a run's result says of its model: metrics, mean loss and parameters."""
    result: dict[str, Any] = json.loads((out / "result.json").read_text(encoding="utf-8"))
    kept = ("training_loss", "stored_parameters")
    return {**result["metrics"], **{name: result[name] for name in kept}}


def make_reference(work: Path, *, seed: int) -> Reference:
    """Run a training to its end.

    Args:
        work: an empty folder, which has to stay.
        seed: of the run.
    """
    data = work / "data"
    data.mkdir(parents=True)
    settings = EXAMPLES["language_modelling"].settings(data) | {"dropout": 0.1}
    settings["training"] = SETTINGS
    config = RunConfig.model_validate(
        {
            "task": "language_modelling",
            "settings": settings,
            "model": "attention",
            "share": {"method": "veps", "residual_rank": 1},
            "seed": seed,
            "out": str(work / "run"),
        }
    )
    file = work / "run.yaml"
    file.write_text(json.dumps(config.model_dump(mode="json", exclude={"out"})))
    made = Reference(config, file, work / "run")
    engine.run(config, on_step=lambda: _keep(made))
    _keep(made)
    made.metrics = scores_of(made.folder)
    made.curve = curve_of(made.folder)
    made.task = config.to_task().prepare()
    loaded = embshare.load(made.folder / "model", made.build())
    made.state = {name: tensor.clone() for name, tensor in loaded.state_dict().items()}
    return made


def measure(made: Reference, work: Path) -> None:
    """See how long a run takes in a process that was forked for it."""
    begun = time.perf_counter()
    ended = die_within(600, lambda: train(made, work / "again"), work / "log")
    assert ended == "ended", (work / "log").read_text()
    made.seconds = time.perf_counter() - begun
    shutil.rmtree(work / "again")


def _keep(made: Reference) -> None:
    for found in read_checkpoints(made.folder / "checkpoints"):
        made.checkpoints[found.step] = (found.folder / "model.safetensors").read_bytes()
