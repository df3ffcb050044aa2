"""From a fine-tuned run to a model of twelve sizes, and what is refused."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification
from typer.testing import CliRunner

import embshare
from embshare.cli import app
from embshare.errors import InvalidValueError
from embshare.models import dynabert
from embshare.tasks.elastic.making import ElasticResult, StageRecord, make_elastic
from embshare.tasks.elastic.settings import ElasticConfig
from embshare.tasks.elastic.training import train_stage
from embshare.tasks.runs.config import RunConfig
from embshare.tasks.runs.engine import run
from embshare.tasks.runs.folder import ForeignFolderError, OtherRunError, RunExistsError
from embshare.tasks.runs.loading import load_run
from tests._support.task_examples import EXAMPLES

QUICK = ElasticConfig(epochs=0.4, batch_size=12, learning_rate=1e-2, evaluate_every=1, repeats=1)
SHARING = {"dense": None, "shared": embshare.ShareConfig(anchor=2.0)}


def fine_tuned(folder: Path, *, layers: int = 4, **fields: Any) -> Path:
    """A BERT on a task of colours."""
    BertConfig(
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=32,
        max_position_embeddings=32,
    ).save_pretrained(folder / "bert")
    (folder / "data").mkdir()
    settings = EXAMPLES["glue"].settings(folder / "data") | {"length": 32}
    chosen: dict[str, Any] = {"model": str(folder / "bert"), "settings": settings}
    run(RunConfig(task="glue", out=folder / "tuned", **(chosen | fields)))
    return folder / "tuned"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        name: fine_tuned(tmp_path_factory.mktemp(name), share=share)
        for name, share in SHARING.items()
    }


@pytest.fixture
def tuned(runs: dict[str, Path]) -> Path:
    return runs["dense"]


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("sharing", SHARING)
def test_a_run_becomes_a_model_of_twelve_sizes(
    sharing: str, runs: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "elastic"
    result = make_elastic(runs[sharing], out, QUICK)
    assert ElasticResult.from_json((out / "elastic.json").read_text()) == result
    assert [stage.name for stage in result.stages] == ["width", "depth", "tuning"]
    assert all(stage.steps == 2 for stage in result.stages)
    rows = {(row.width, row.depth): row for row in result.sub_networks.rows}
    assert len(rows) == 12
    assert rows[0.25, 0.5].parameters < rows[1, 1].parameters
    assert list(result.before) == ["accuracy"]
    assert result.sub_networks.shared == (sharing == "shared")
    assert not (out / "stages").exists()

    found = load_run(out)  # a run as any other
    model: Any = dynabert.restore(found.model)
    assert isinstance(model, BertForSequenceClassification)
    dynabert.set_size(model, width=0.25, depth=0.5)
    scores = found.evaluate({}, folder=tmp_path)
    assert scores["accuracy"] == pytest.approx(rows[0.25, 0.5].metrics["accuracy"])


def test_a_killed_one_resumes_after_its_last_stage(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned, out = runs["shared"], tmp_path / "killed"
    whole = make_elastic(tuned, tmp_path / "whole", QUICK)

    def killed(model: Any, stage: Any, *given: Any, **named: Any) -> Any:
        if stage.name == "depth":
            raise KeyboardInterrupt
        return train_stage(model, stage, *given, **named)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("embshare.tasks.elastic.making.train_stage", killed)
        make_elastic(tuned, out, QUICK)
    with pytest.raises(RunExistsError):
        make_elastic(tuned, out, QUICK)
    with pytest.raises(OtherRunError, match=r"`elastic-config\.json` changed"):
        make_elastic(tuned, out, QUICK.model_copy(update={"epochs": 1.0}), resume=True)
    again = make_elastic(tuned, out, QUICK, resume=True)
    assert [s.loss for s in again.stages] == pytest.approx([s.loss for s in whole.stages])
    assert [r.metrics for r in again.sub_networks.rows] == [
        r.metrics for r in whole.sub_networks.rows
    ]
    one, other = (load_run(tmp_path / name).model.state_dict() for name in (out, "whole"))
    for name in one:
        torch.testing.assert_close(one[name], other[name])


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """No stage is trained: a test that gets there was let through."""

    def train(*_: Any, **__: Any) -> Any:
        raise AssertionError("a stage was trained")

    monkeypatch.setattr("embshare.tasks.elastic.making.train_stage", train)


def test_what_is_whole_stays_as_it_is(tuned: Path, tmp_path: Path) -> None:
    out = tmp_path / "elastic"
    config = QUICK.model_copy(update={"tuning": False, "most_rows": 12, "epochs": 1.0})
    result = make_elastic(tuned, out, config)
    assert [(stage.name, stage.steps) for stage in result.stages] == [("width", 1), ("depth", 1)]
    before = files(out)
    assert make_elastic(tuned, out, config, resume=True) == result
    assert files(out) == before
    with pytest.raises(OtherRunError, match=r"`elastic-config\.json` changed"):
        make_elastic(tuned, out, QUICK, resume=True)
    mine = out / "stages" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    again = make_elastic(tuned, out, config, overwrite=True)
    assert [stage.loss for stage in again.stages] == [stage.loss for stage in result.stages]
    assert mine.read_text() == "mine" and list(mine.parent.iterdir()) == [mine]


@pytest.mark.usefixtures("untrained")
def test_a_run_is_not_made_elastic_in_its_own_place(tuned: Path, tmp_path: Path) -> None:
    before = files(tuned)
    for asked in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(InvalidValueError, match="`out`: must be another folder than the run's"):
            make_elastic(tuned, tuned.parent / "." / tuned.name, QUICK, **asked)
    with pytest.raises(InvalidValueError, match="exclude each other"):
        make_elastic(tuned, tmp_path / "elastic", QUICK, overwrite=True, resume=True)
    copied = shutil.copytree(tuned, tmp_path / "copied")  # a run, but none of three stages
    with pytest.raises(OtherRunError):
        make_elastic(tuned, copied, QUICK, resume=True)
    assert files(tuned) == before


@pytest.mark.usefixtures("untrained")
@pytest.mark.parametrize("asked", ["overwrite", "resume"])
@pytest.mark.parametrize(
    "name", ["elastic.json", "elastic-config.json", "stages/width/weights.bin"]
)
def test_files_of_somebody_else_are_left_alone(
    asked: str, name: str, tuned: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "elastic" / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    asked_for: dict[str, Any] = {asked: True}
    with pytest.raises(ForeignFolderError, match=r"has no elastic-config\.json of ours, and"):
        make_elastic(tuned, tmp_path / "elastic", QUICK, **asked_for)
    assert files(tmp_path / "elastic") == {mine: b"mine"}


def test_a_stage_that_diverged_is_written_down() -> None:
    fields: dict[str, Any] = {"name": "width", "steps": 1, "best_step": 1, "seconds": 1.0}
    record = StageRecord(loss=math.nan, total=math.inf, **fields)
    again = StageRecord.from_json(record.to_json())
    assert math.isnan(again.loss) and again.total == math.inf


def test_what_cannot_be_made_smaller_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "lm").mkdir()
    settings = EXAMPLES["language_modelling"].settings(tmp_path / "lm")
    fields: dict[str, Any] = {"model": "conv", "settings": settings}
    run(RunConfig(task="language_modelling", out=tmp_path / "run", **fields))
    out = tmp_path / "elastic"
    for tuned, finding in (
        (fine_tuned(tmp_path, layers=2), r"`depth` must leave a whole number of the 2 layers"),
        (fine_tuned(tmp_path / "conv", model="conv"), "it has no list `encoder.layer`"),
        (tmp_path / "run", "is a run of language_modelling"),
    ):
        with pytest.raises(InvalidValueError, match="must be a run of glue with a BERT") as caught:
            make_elastic(tuned, out, QUICK)
        assert re.search(finding, str(caught.value))
        assert not out.exists()


def test_a_setting_that_cannot_be_is_named() -> None:
    with pytest.raises(InvalidValueError, match="`repeats`"):
        ElasticConfig(repeats=0)


def test_the_command_has_an_option_for_each_setting(tuned: Path, tmp_path: Path) -> None:
    env = {"COLUMNS": "200", "NO_COLOR": "1"}
    shown = CliRunner().invoke(app, ["elastic", "--help"], env=env)
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown.stdout)
    for name in ElasticConfig.model_fields:
        assert f"--{name.replace('_', '-')}" in text
    assert "Batch size per device (sequences)." in text

    out = tmp_path / "elastic"
    arguments = ["elastic", tuned, "--out", out, "--epochs", 0.2, "--repeats", 1, "--no-tuning"]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], env=env)
    assert done.exit_code == 0, done.stderr
    assert "weights" in done.stdout and "0.25" in done.stdout
    found = ElasticResult.from_json((out / "elastic.json").read_text())
    assert (found.config.epochs, found.config.tuning) == (0.2, False)
