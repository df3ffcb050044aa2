"""The same questions of every task in the catalogue."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from embshare.config import ShareConfig
from embshare.errors import InvalidValueError
from embshare.models.matched import ARCHITECTURES, Architecture
from embshare.runtime.bank import bank_of
from embshare.tasks.catalogue import TASKS
from embshare.tasks.changing import FixedSettingError, scored_with
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.runs.engine import run
from embshare.tasks.runs.loading import load_run
from embshare.tasks.runs.result import RunResult
from tests._support.task_examples import EXAMPLES

NAMES = sorted(TASKS)
VEPS = ShareConfig(anchor=2.0)
# What the format of checkpoints makes transformers say; the test is about what is in them.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed:FutureWarning")


def config(name: str, folder: Path, **changes: Any) -> RunConfig:
    data = folder / "data"
    if not data.exists():
        data.mkdir(parents=True)
    settings = EXAMPLES[name].settings(data)
    fields: dict[str, Any] = {"model": "conv", "out": folder / "run", "settings": settings}
    return RunConfig(task=name, **(fields | changes))


def test_every_task_has_an_example() -> None:
    assert set(EXAMPLES) == set(TASKS)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_given_of_training_is_merged_with_the_tasks_own_defaults(name: str) -> None:
    make: Any = TASKS[name].settings_class()
    default = make().training
    assert make(training={}).training == default
    given = make(training={"steps": 7, "warmup": 0.5}).training
    assert given == default.model_copy(update={"steps": 7, "warmup": 0.5})
    counted = make(training={"epochs": 3, "warmup_steps": 9}).training
    rest = {"epochs", "steps", "warmup", "warmup_steps"}
    assert (counted.epochs, counted.warmup_steps) == (3, 9)
    assert counted.model_dump(exclude=rest) == default.model_dump(exclude=rest)
    for settings in (make(training={"steps": 7}), make(training=counted), make()):
        assert make.from_json(settings.to_json()) == settings
    taken = type(default)(steps=9)
    assert make(training=taken).training is taken
    run = RunConfig(task=name, settings={"training": {}}, out=Path("out"))  # type: ignore[arg-type]
    assert run.training == default


@pytest.mark.parametrize("name", NAMES)
def test_what_made_a_model_stays_when_it_is_scored_again(name: str, tmp_path: Path) -> None:
    trained = config(name, tmp_path).settings
    assert {"data", "training"} <= trained.scoring < type(trained).model_fields.keys()
    same = {field: getattr(trained, field) for field in type(trained).model_fields}
    assert scored_with(trained, same) == trained
    elsewhere = scored_with(trained, {"data": tmp_path / "other"})
    assert elsewhere == trained.model_copy(update={"data": tmp_path / "other"})
    with pytest.raises(FixedSettingError) as caught:
        scored_with(trained, {"width": 64, "data": tmp_path / "other", "layers": 5})
    assert list(caught.value.changed) == ["layers", "width"]
    for source in trained.sources:  # one stands for the others
        there = scored_with(trained, {source: "elsewhere"})
        given = [name for name in trained.sources if getattr(there, name) is not None]
        assert given == [source]
    with pytest.raises(InvalidValueError, match="widht"):
        scored_with(trained, {"widht": 64})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("architecture", "share"),
    [("lstm", None), ("conv", VEPS), ("attention", ShareConfig(method="eps"))],
)
def test_a_run_is_trained_saved_loaded_and_used(
    name: str, architecture: Architecture, share: ShareConfig | None, tmp_path: Path
) -> None:
    assert architecture in ARCHITECTURES
    settings = config(name, tmp_path, model=architecture, share=share)
    result = run(settings)
    assert RunResult.from_json((settings.out / "result.json").read_text()) == result
    assert RunConfig.from_yaml(settings.out / "config.yaml") == settings
    assert math.isfinite(result.metrics[result.metric])
    assert result.steps == settings.training.steps
    assert (result.stored_parameters < result.read_parameters) or share is None
    assert result.bytes > 4 * result.stored_parameters
    points = json.loads((settings.out / "curve.json").read_text())
    assert [point["step"] for point in points] == list(range(1, result.steps + 1))

    found = load_run(settings.out)
    assert (bank_of(found.model) is None) == (share is None)
    again = found.evaluate({}, folder=tmp_path)
    assert again[result.metric] == pytest.approx(result.metrics[result.metric], rel=1e-6)
    inputs = EXAMPLES[name].inputs(tmp_path / "data")
    lines = list(found.processor.predict(found.model, inputs))
    assert len(lines) == len(inputs)
    assert all("\n" not in line for line in lines)


@pytest.mark.parametrize("name", NAMES)
def test_a_killed_run_ends_as_if_it_had_not_been(name: str, tmp_path: Path) -> None:
    whole = run(config(name, tmp_path, share=VEPS, seed=3))
    steps = iter(range(100))

    def die() -> None:
        if next(steps) == 4:
            raise KeyboardInterrupt

    broken = config(name, tmp_path, share=VEPS, seed=3, out=tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        run(broken, on_step=die)
    assert not (broken.out / "result.json").exists()
    torch.rand(7)  # what happened before must not matter
    resumed = run(broken, resume=True)
    assert resumed.metrics == whole.metrics
    losses = [
        [point["loss"] for point in json.loads((folder / "curve.json").read_text())]
        for folder in (tmp_path / "run", broken.out)
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", NAMES)
def test_settings_need_no_extra(name: str) -> None:
    """The command line shows a task's options before anything that it needs is installed."""
    import subprocess
    import sys

    code = (
        "import sys\n"
        "from embshare.tasks.catalogue import TASKS\n"
        f"TASKS[{name!r}].settings_class()()\n"
        "heavy = {'transformers', 'datasets', 'accelerate', 'sacrebleu', 'matplotlib', 'PIL'}\n"
        "print(*sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("\n", 0), done.stderr
