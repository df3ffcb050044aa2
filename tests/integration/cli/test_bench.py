"""``embshare bench`` and ``embshare report``: options reach the config, errors are one message."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import embshare.tasks.studies as studies
from embshare.cli import app
from embshare.config import ShareConfig
from embshare.tasks.studies import BenchmarkConfig, Study
from embshare.tasks.studies.bench import standard_tasks

LM = ["--task", "language_modelling"]


class StoppedError(Exception):
    """Raised in place of a benchmark."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Study, Path, dict[str, Any]]]:
    """What the command line would have run: study, folder and how."""
    found: list[tuple[Study, Path, dict[str, Any]]] = []

    def run(study: Study, out: Path, *, observer: Any, **how: Any) -> None:
        found.append((study, out, how))
        raise StoppedError

    monkeypatch.setattr(studies, "run_study", run)
    return found


HOW: dict[str, Any] = {"jobs": None, "overwrite": False, "resume": False}
HOW |= {"fail_fast": True, "checkpoints": False, "keep_checkpoints": False}
HOW |= {"retries": 2, "pool": None}


def test_without_options_it_is_the_default_of_the_library(asked: list[Any]) -> None:
    result = CliRunner().invoke(app, ["bench"])
    assert isinstance(result.exception, StoppedError)
    assert asked == [(BenchmarkConfig().study(), Path("runs/bench"), HOW)]


@pytest.mark.parametrize("word", ["--hidden-lr 0.3", "--set translation.training.hidden_lr=0.3"])
def test_a_rate_that_is_given_is_taken_also_where_it_is_the_default(
    asked: list[Any], word: str
) -> None:
    CliRunner().invoke(app, ["bench", "--task", "translation", *word.split()])
    ((study, out, _),) = asked
    assert {trial.config.training.hidden_lr for trial in study.trials(out)} == {0.3}


def test_options_reach_the_study(asked: list[Any], tmp_path: Path) -> None:
    words = "--architecture conv --architecture lstm --method veps --seed 3 --seed 4 --tie none "
    words += "--factor 16 --gain learned --width 64 --layers 3 --dropout 0.2 --jobs 1 "
    words += "--shared-hidden-lr 0.9 --steps 7 --batch-size 2 --learning-rate 0.5 "
    words += f"--data {tmp_path} "
    words += "--set language_modelling.level=word --set language_modelling.vocabulary_size=null "
    words += f"--set language_modelling.training.warmup=0.1 --out {tmp_path / 'out'} --overwrite"
    CliRunner().invoke(app, ["bench", *LM, *words.split()])
    ((study, out, how),) = asked
    assert study.labels == {
        "task": ("language_modelling",),
        "model": ("conv", "lstm"),
        "method": ("veps",),
        "seed": ("3", "4"),
    }
    assert (out, how) == (tmp_path / "out", HOW | {"jobs": 1, "overwrite": True})
    config = study.trials(out)[0].config
    assert config.share == ShareConfig(tie="none", factor=16, gain="learned", anchor=2.0)
    modelling: Any = config.settings
    assert (modelling.width, modelling.layers, modelling.dropout) == (64, 3, 0.2)
    assert (modelling.data, modelling.level, modelling.vocabulary_size) == (tmp_path, "word", None)
    training = config.training
    assert (training.steps, training.batch_size, training.learning_rate) == (7, 2, 0.5)
    assert (training.warmup, training.hidden_lr) == (0.1, 0.9)


def test_a_setting_of_all_tasks_reaches_each(asked: list[Any]) -> None:
    CliRunner().invoke(app, ["bench", "--steps", "7"])
    ((study, out, _),) = asked
    steps = {(t.config.task, t.config.training.steps) for t in study.trials(out)}
    assert steps == {(task, 7) for task in standard_tasks()}


def test_quick_has_one_seed(asked: list[Any]) -> None:
    CliRunner().invoke(app, ["bench", "--quick", "--seed", "5"])
    assert asked[0][0].labels["seed"] == ("5",)


def test_what_stands_for_something_else_takes_its_place(asked: list[Any]) -> None:
    more = ["--set", f"{LM[1]}.training.epochs=3"]
    CliRunner().invoke(app, ["bench", *LM, "--warmup-steps", "2", *more])
    ((study, out, _),) = asked
    training = study.trials(out)[0].config.training
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
    assert "but has no results.json, and no result.json beside a config.yaml" in result.stderr
    result = CliRunner().invoke(app, ["report", str(tmp_path), "--out", str(tmp_path / "out")])
    assert "has no results.json" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("asked_for", ["--overwrite", "--resume"])
def test_files_of_somebody_else_are_left_alone(tmp_path: Path, asked_for: str) -> None:
    (tmp_path / "report.html").write_text("mine")
    words = ["bench", *LM, "--quick", "--out", str(tmp_path), asked_for]
    result = CliRunner().invoke(app, words)
    assert "has no study.yaml of ours, and `report.html` would be lost" in result.stderr
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


STUDY = """
name: ties
task: language_modelling
fixed: {width: 16, layers: 2, heads: 2, length: 12, steps: 2, vocabulary_size: 300, eval_limit: 4}
axes:
  arch: [conv, lstm]
  share: [none, veps]
compare: {baseline: {share: none}}
"""


def test_ablate_runs_a_file_and_the_same_command_resumes_it(tmp_path: Path) -> None:
    file, out = tmp_path / "ties.yaml", tmp_path / "out"
    file.write_text(STUDY)
    words = ["ablate", str(file), "--out", str(out), "--jobs", "0"]
    listed = CliRunner().invoke(app, [*words, "--dry-run"])
    for name in ("conv--none", "conv--veps", "lstm--none", "lstm--veps"):
        (line,) = (line for line in listed.stdout.splitlines() if name in line)
        stored, size, seconds, unit = line.split()[1:]
        assert int(size.replace(",", "")) > 4 * int(stored.replace(",", "")) > 0
        assert float(seconds) > 0 and unit == "s"
    assert "4 trials, about" in listed.stdout
    assert not out.exists()
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "change" in done.stdout and "4 models in" in done.stdout
    before = {path: path.read_bytes() for path in (out / "trials").glob("*.json")}
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 0
    assert {path: path.read_bytes() for path in (out / "trials").glob("*.json")} == before
    shown = CliRunner().invoke(app, ["report", str(out)])
    assert "conv" in shown.stdout and shown.exit_code == 0
    several = CliRunner().invoke(app, ["report", str(out), str(out)])
    assert (several.exit_code, "`--out`: must be given for" in several.stderr) == (2, True)
    trials = [str(out / "trials" / name) for name in ("conv--none", "conv--veps")]
    runs = CliRunner().invoke(app, ["report", *trials, "--baseline", "share=none"])
    assert runs.exit_code == 0, runs.output
    assert "change" in runs.stdout and "2 runs. --out FOLDER writes" in runs.stdout
    file.write_text(STUDY.replace("steps: 2", "steps: 3"))
    other = CliRunner().invoke(app, words)
    assert other.exit_code == 1 and "but `fixed.steps` changed" in other.stderr


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ("arch: [conv, lstm]", "arhc: [conv]", 2, "`arhc`: is no option here; did you mean `arch`"),
        ("axes:", "axis:", 2, "`axis`"),
        ("name: ties", "name: [", 1, "it is not YAML"),
        ("[conv, lstm]", "[rnn]", 1, "`rnn` cannot be used for this task"),
    ],
)
def test_a_wrong_study_is_one_message_and_no_folder(
    tmp_path: Path, old: str, new: str, code: int, message: str
) -> None:
    file, out = tmp_path / "ties.yaml", tmp_path / "out"
    file.write_text(STUDY.replace(old, new))
    result = CliRunner().invoke(app, ["ablate", str(file), "--out", str(out), "--jobs", "0"])
    assert message in result.stderr
    assert (result.exit_code, out.exists()) == (code, False)
    assert "Traceback" not in result.output


def test_commands_of_an_array_job_make_the_study(tmp_path: Path) -> None:
    file, out = tmp_path / "ties.yaml", tmp_path / "out"
    text = STUDY.replace("[conv, lstm]", "[conv]") + "then: {longer: {fixed: {steps: 1}}}\n"
    file.write_text(text)
    words = ["ablate", str(file), "--out", str(out)]
    printed = CliRunner().invoke(app, [*words, "--print-commands"]).stdout.splitlines()
    assert printed[2] == "# when all above have ended" and len(printed) == 5
    assert not out.exists()
    for line in printed:
        if not line.startswith("#"):
            first, *rest = shlex.split(line)
            assert first == "embshare"
            done = CliRunner().invoke(app, rest)
            assert done.exit_code == 0, done.output
    shown = CliRunner().invoke(app, ["report", str(out)])
    assert "4 models" in shown.stdout


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("random: {count: 3, options: {width: {integer: [8]}}}", "random.options.width"),
        ("budget: {bytes: 100}", "must be met by some `width`, but the smallest model takes"),
        ("rates: {learning_rate: [fast]}", "`training.learning_rate`: Input should be a valid"),
        ("needs: {teacher: {share: dense}}", "`needs.teacher`: 'dense' must be one of none, veps"),
        ("then: {small: {start: begin}}", "`begin`: is no option here"),
        ("where: [{labels: {arch: rnn}, options: {}}]", "'rnn' must be one of conv, lstm"),
    ],
)
def test_a_mistake_in_each_part_is_one_message(tmp_path: Path, more: str, message: str) -> None:
    file, out = tmp_path / "ties.yaml", tmp_path / "out"
    file.write_text(STUDY + more + "\n")
    result = CliRunner().invoke(app, ["ablate", str(file), "--out", str(out), "--jobs", "0"])
    assert message in " ".join(result.stderr.split())
    assert result.exit_code in (1, 2) and "Traceback" not in result.output
    assert not out.exists()
