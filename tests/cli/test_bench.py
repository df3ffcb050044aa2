"""``embshare bench``: options reach the config, and errors are one message."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import embshare.tasks.benchmark as benchmark
from embshare.cli import app
from embshare.tasks.benchmark import BenchmarkConfig


class StoppedError(Exception):
    """Raised in place of a benchmark."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[BenchmarkConfig]:
    """The configs that the command line would have run."""
    found: list[BenchmarkConfig] = []

    def run(config: BenchmarkConfig, observer: Any) -> None:
        found.append(config)
        raise StoppedError

    monkeypatch.setattr(benchmark, "run_benchmark", run)
    return found


def test_without_options_it_is_the_default_of_the_library(asked: list[BenchmarkConfig]) -> None:
    result = CliRunner().invoke(app, ["bench"])
    assert isinstance(result.exception, StoppedError)
    assert asked == [BenchmarkConfig()]


def test_options_reach_the_config(asked: list[BenchmarkConfig], tmp_path: Path) -> None:
    words = "--architecture conv --architecture lstm --method veps --seed 3 --seed 4 --tie none "
    words += "--factor 16 --gain learned --width 64 --layers 3 --dropout 0.2 --length 24 "
    words += f"--steps 7 --batch-size 2 --learning-rate 0.5 --data {tmp_path} --level word "
    words += f"--out {tmp_path / 'out'} --overwrite"
    CliRunner().invoke(app, ["bench", *words.split()])
    (config,) = asked
    assert (config.architectures, config.methods) == (("conv", "lstm"), ("veps",))
    assert (config.seeds, config.tie, config.factor, config.gain) == ((3, 4), "none", 16, "learned")
    assert (config.out, config.overwrite, config.resume) == (tmp_path / "out", True, False)
    modelling = config.language_modelling
    assert (modelling.width, modelling.layers, modelling.dropout) == (64, 3, 0.2)
    assert (modelling.data, modelling.level, modelling.length) == (tmp_path, "word", 24)
    assert modelling.vocabulary_size is None, "words have no limit unless one is given"
    training = modelling.training
    assert (training.steps, training.batch_size, training.learning_rate) == (7, 2, 0.5)


def test_quick_has_one_seed(asked: list[BenchmarkConfig]) -> None:
    CliRunner().invoke(app, ["bench", "--quick"])
    assert len(asked[0].seeds) == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--architecture", "rnn"], 2, "error: BenchmarkConfig is not valid: `architectures.0`"),
        (["--dropout", "1"], 2, "error: LanguageModellingConfig is not valid: `dropout`"),
        (["--steps", "0"], 2, "error: TrainSettings is not valid: `steps`"),
        (["--tie", "some"], 2, "error: ShareConfig is not valid: `tie`: must be 'none', 'all'"),
        (["--data", "nowhere"], 1, "error: `nowhere` must be a folder with the split `train`"),
    ],
)
def test_a_bad_argument_is_one_message_and_no_folder(
    words: list[str], code: int, message: str, tmp_path: Path
) -> None:
    result = CliRunner().invoke(app, ["bench", *words, "--out", str(tmp_path / "out")])
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()
