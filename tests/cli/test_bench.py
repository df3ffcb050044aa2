"""``embshare bench`` and ``embshare report``: options reach the config, errors are one message."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import embshare.tasks.benchmark as benchmark
from embshare.cli import app
from embshare.config import ShareConfig
from embshare.tasks.benchmark import BenchmarkConfig
from embshare.tasks.benchmark.config import standard_tasks

LM = ["--task", "language_modelling"]


class StoppedError(Exception):
    """Raised in place of a benchmark."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[BenchmarkConfig, bool, bool]]:
    """What the command line would have run."""
    found: list[tuple[BenchmarkConfig, bool, bool]] = []

    def run(config: BenchmarkConfig, *, overwrite: bool, resume: bool, observer: Any) -> None:
        found.append((config, overwrite, resume))
        raise StoppedError

    monkeypatch.setattr(benchmark, "run_benchmark", run)
    return found


def test_without_options_it_is_the_default_of_the_library(asked: list[Any]) -> None:
    result = CliRunner().invoke(app, ["bench"])
    assert isinstance(result.exception, StoppedError)
    assert asked == [(BenchmarkConfig(), False, False)]


def test_options_reach_the_config(asked: list[Any], tmp_path: Path) -> None:
    words = "--architecture conv --architecture lstm --method veps --seed 3 --seed 4 --tie none "
    words += "--factor 16 --gain learned --width 64 --layers 3 --dropout 0.2 --jobs 1 "
    words += "--shared-hidden-lr 0.9 --steps 7 --batch-size 2 --learning-rate 0.5 "
    words += f"--data {tmp_path} "
    words += "--set language_modelling.level=word --set language_modelling.vocabulary_size=null "
    words += f"--set language_modelling.training.warmup=0.1 --out {tmp_path / 'out'} --overwrite"
    CliRunner().invoke(app, ["bench", *LM, *words.split()])
    ((config, overwrite, resume),) = asked
    assert (config.architectures, config.methods) == (("conv", "lstm"), ("veps",))
    assert (config.seeds, config.jobs, config.shared_hidden_lr) == ((3, 4), 1, 0.9)
    assert config.share == ShareConfig(tie="none", factor=16, gain="learned", anchor=2.0)
    assert (config.out, overwrite, resume) == (tmp_path / "out", True, False)
    modelling = config.settings["language_modelling"]
    assert (modelling.width, modelling.layers, modelling.dropout) == (64, 3, 0.2)
    assert (modelling.data, modelling.level, modelling.vocabulary_size) == (tmp_path, "word", None)
    training = modelling.training
    assert (training.steps, training.batch_size, training.learning_rate) == (7, 2, 0.5)
    assert training.warmup == 0.1


def test_a_setting_of_all_tasks_reaches_each(asked: list[Any]) -> None:
    CliRunner().invoke(app, ["bench", "--steps", "7"])
    ((config, _, _),) = asked
    assert [config.training(task).steps for task in standard_tasks()] == [7] * len(config.tasks)


def test_quick_has_one_seed(asked: list[Any]) -> None:
    CliRunner().invoke(app, ["bench", "--quick", "--seed", "5"])
    assert asked[0][0].seeds == (5,)


def test_what_stands_for_something_else_takes_its_place(asked: list[Any]) -> None:
    more = ["--set", f"{LM[1]}.training.epochs=3"]
    CliRunner().invoke(app, ["bench", *LM, "--warmup-steps", "2", *more])
    ((config, _, _),) = asked
    training = config.training(LM[1])
    assert (training.warmup_steps, training.epochs) == (2, 3)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--architecture", "rnn"], 2, "error: BenchmarkConfig is not valid: `architectures.0`"),
        ([*LM, "--dropout", "1"], 2, "`dropout`"),
        (["--steps", "0"], 2, "`training.steps`"),
        (["--tie", "some"], 2, "`share.tie`: must be 'none', 'all'"),
        ([*LM, "--data", "nowhere"], 1, "error: `nowhere` must be a folder with the split `train`"),
        (["--task", "weather"], 2, "`weather` must be one of the tasks language_modelling"),
        (["--data", "weather=x"], 2, "`--data`: must be TASK=FOLDER with a task of"),
        (["--set", "steps=3"], 2, "`--set`: must be TASK.NAME=VALUE with a task of"),
        (["--quick", "--epochs", "1"], 2, "few steps, so leave out --epochs"),
        (["--quick", *LM, "--set", f"{LM[1]}.training=5"], 2, "`training`"),
        (["--quick", "--seed", "1", "--seed", "2"], 2, "leave out more than one --seed"),
        (["--seed", "4294967296"], 2, "`seeds.0`: Input should be less than 4294967296"),
        (["--set", "glue.name=["], 2, "`--set`: the value must be YAML, but 'glue.name=['"),
        (
            ["--set", "glue.training=5", "--set", "glue.training.steps=1"],
            2,
            "part of `training`, which was set to 5",
        ),
        (["--overwrite", "--resume"], 2, "`overwrite` and `resume` exclude each other"),
    ],
)
def test_a_bad_argument_is_one_message_and_no_folder(
    words: list[str], code: int, message: str, tmp_path: Path
) -> None:
    result = CliRunner().invoke(app, ["bench", *words, "--out", str(tmp_path / "out")])
    assert message in result.stderr
    assert result.exit_code == code
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_benchmark_is_not_reported(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 1
    assert "must be a folder that `embshare bench` wrote, but has no results.json" in result.stderr


def test_several_folders_need_one_for_their_report(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(tmp_path), str(tmp_path)])
    assert result.exit_code == 2
    assert "`--out`: must be given for several folders" in result.stderr
    result = CliRunner().invoke(app, ["report", str(tmp_path), "--out", str(tmp_path / "out")])
    assert "has no results.json" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("asked_for", ["--overwrite", "--resume"])
def test_files_of_somebody_else_are_left_alone(tmp_path: Path, asked_for: str) -> None:
    (tmp_path / "report.html").write_text("mine")
    words = ["bench", *LM, "--quick", "--out", str(tmp_path), asked_for]
    result = CliRunner().invoke(app, words)
    assert "has no results.json of ours, and `report.html` would be lost" in result.stderr
    result = CliRunner().invoke(app, [*words[:-2], str(tmp_path / "report.html"), asked_for])
    assert "must be a new or an empty folder" in result.stderr
    assert (tmp_path / "report.html").read_text() == "mine"


@pytest.mark.parametrize("command", ["bench", "report"])
def test_a_survey_of_somebody_else_is_left_alone(tmp_path: Path, command: str) -> None:
    (tmp_path / "results.json").write_text('{"my": "survey"}')
    words = [command, *(LM if command == "bench" else [str(tmp_path)])]
    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path), "--overwrite"])
    assert result.exit_code != 0 and "Traceback" not in result.output
    assert (tmp_path / "results.json").read_text() == '{"my": "survey"}'
