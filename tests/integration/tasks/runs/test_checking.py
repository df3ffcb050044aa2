"""Checks before training, and the content of a result."""

import json
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from embshare.config import ShareConfig
from embshare.errors import EmbshareError, InvalidValueError
from embshare.tasks.averaging import (
    AveragingError,
    LostWeightsError,
    check_average,
    load_average,
)
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.runs.engine import run
from embshare.tasks.runs.folder import ForeignFolderError, NoFolderError
from embshare.tasks.runs.result import RunResult
from embshare.tasks.settings import TrainSettings
from embshare.tasks.trainer import DivergedWarning
from tests._support.run_example import config


@pytest.mark.parametrize("asked", ["overwrite", "resume"])
def test_what_is_no_run_is_left_alone(tmp_path: Path, asked: str) -> None:
    settings = config(tmp_path)
    model = settings.out / "model"
    model.mkdir(parents=True)
    asked_for: dict[str, Any] = {asked: True}
    run(settings, **asked_for)  # folders without files hold nothing
    other = config(tmp_path, out=tmp_path / "project")
    (other.out / "model").mkdir(parents=True)
    (other.out / "model" / "weights.bin").write_text("precious")
    (other.out / "config.yaml").write_text("a: 1\n")
    with pytest.raises(ForeignFolderError, match="must hold results to replace or resume"):
        run(other, **asked_for)
    assert (other.out / "model" / "weights.bin").read_text() == "precious"
    assert (other.out / "config.yaml").read_text() == "a: 1\n"


def test_only_what_a_run_writes_is_replaced(tmp_path: Path) -> None:
    settings = config(tmp_path)
    run(settings)
    others = [settings.out / name for name in ("curve.csv", "curve.notes.txt")]
    for path in others:
        path.write_text("mine")
    (settings.out / "curve.json").write_text("old")
    run(settings, overwrite=True)
    assert [path.read_text() for path in others] == ["mine", "mine"]
    assert (settings.out / "curve.json").read_text() != "old"


@pytest.mark.parametrize("task", ["{_name: translation}", "[glue]", "5", "null"])
def test_a_file_whose_task_is_not_a_name_is_not_a_run(tmp_path: Path, task: str) -> None:
    settings = config(tmp_path)
    settings.out.mkdir()
    (settings.out / "config.yaml").write_text(f"task: {task}\nout: x\n")
    with pytest.raises(ForeignFolderError, match=r"`config\.yaml` would be lost"):
        run(settings, overwrite=True)
    with pytest.raises(InvalidValueError, match="`task`: Input should be a valid string"):
        RunConfig.from_yaml(settings.out / "config.yaml")


def test_a_folder_that_cannot_be_made_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NoFolderError, match=r"must be a folder that can be made .*: Not a dir"):
        run(config(tmp_path, out=tmp_path / "file" / "run"))


@pytest.mark.parametrize(
    ("training", "kind", "message"),
    [
        ({"average": 9, "save_every": 1}, AveragingError, "of 8 steps must have 9 .*, but has 8"),
        ({"average": 2, "save_every": 8}, AveragingError, "must have 2 checkpoints .*, but has 1"),
        ({"layer_decay": 0.9}, InvalidValueError, "`layer_decay` must be 1 .* layers are shared"),
        ({"trackers": ("foo",)}, InvalidValueError, "'foo' must be a tracker that is installed"),
    ],
)
def test_what_a_training_would_fail_at_is_found_before(
    tmp_path: Path, training: dict[str, Any], kind: type[EmbshareError], message: str
) -> None:
    settings = config(tmp_path, share=ShareConfig(), training=training)
    with pytest.raises(kind, match=message):
        run(settings)
    assert not settings.out.exists()


def test_an_average_needs_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(AveragingError, match="must have 2 checkpoints to average, but has 0"):
        run(config(tmp_path, training={"average": 2}), checkpoints=False)


@pytest.mark.parametrize(("kind", "whole"), [(None, False), ("FULL_STATE_DICT", True)])
def test_an_average_needs_whole_checkpoints(
    tmp_path: Path, kind: str | None, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FSDP2 writes sharded ones by default."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    if kind is not None:
        monkeypatch.setenv("FSDP_STATE_DICT_TYPE", kind)
    settings = TrainSettings(steps=4, average=2)
    refused = pytest.raises(InvalidValueError, match="fsdp_state_dict_type FULL_STATE_DICT")
    with nullcontext() if whole else refused:
        check_average(settings, every=1, checkpoints=True)


def test_the_mean_is_of_whole_models(tmp_path: Path) -> None:
    settings = config(tmp_path)
    run(settings)
    (settings.out / "checkpoints" / "checkpoint-8" / "model.safetensors").unlink()
    with pytest.raises(LostWeightsError, match=r"lacks 2, the first of them `weight`"):
        load_average(nn.Linear(2, 2), settings.out / "checkpoints", 1)


def test_a_model_that_diverged_says_so_everywhere(tmp_path: Path) -> None:
    training = {"learning_rate": 1e30, "warmup": 0.0}
    with pytest.warns(DivergedWarning, match="must be finite, but is nan at step 2"):
        result = run(config(tmp_path, training=training))
    assert math.isnan(result.training_loss)
    assert RunResult.from_json((result.config.out / "result.json").read_text()).steps == 8
    text = (result.config.out / "curve.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)[-1]["loss"] is None


def test_a_result_knows_how_long_all_of_it_took(tmp_path: Path) -> None:
    result = run(config(tmp_path))
    assert result.provenance.seconds > result.seconds > 0
    assert result.processes == 1


def test_epochs_are_whole_where_each_ends_with_a_smaller_update(tmp_path: Path) -> None:
    training = {"epochs": 3, "batch_size": 16, "accumulation": 4, "log_every": 1}
    settings = config(tmp_path)
    fields = settings.model_dump()
    fields["settings"]["training"] = training
    result = run(RunConfig(**fields))
    batches = math.ceil(math.ceil((30 * 16 + 301) / 12) / 16)
    assert batches % 4
    assert result.steps == 3 * math.ceil(batches / 4)
    curve = json.loads((settings.out / "curve.json").read_text())
    assert curve[-1]["epoch"] == pytest.approx(3)
